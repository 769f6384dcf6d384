//! Owns the names of child objects, and the host names and ports at which etcd's pods are reached.
//!
//! The longest suffix has 12 characters. With a cluster's 40 that makes 52, the longest StatefulSet
//! name whose pods can be created: the label `controller-revision-hash` adds 11 and may have 63.

/// Port of etcd's client API.
pub const ETCD_CLIENT_PORT: u16 = 2379;
/// Port on which etcd members talk to each other.
pub const ETCD_PEER_PORT: u16 = 2380;
/// Port of etcd's metrics and probes.
pub const ETCD_METRICS_PORT: u16 = 2381;

/// The members' StatefulSet, PodDisruptionBudget and client Service.
#[must_use]
pub fn cluster(cluster: &str) -> String {
    cluster.into()
}

/// One member, by ordinal.
#[must_use]
pub fn member(cluster: &str, ordinal: i32) -> String {
    format!("{cluster}-{ordinal}")
}

/// The headless Service that gives each member a host name.
#[must_use]
pub fn members_service(cluster: &str) -> String {
    format!("{cluster}-members")
}

/// The ConfigMap with the members' configuration file.
#[must_use]
pub fn config_map(cluster: &str) -> String {
    format!("{cluster}-config")
}

/// The members' Secret: the origins' credentials, one file per group.
#[must_use]
pub fn credentials(cluster: &str) -> String {
    format!("{cluster}-credentials")
}

/// The file in that Secret with the connection URL of one group.
#[must_use]
pub fn credential_file(group: &str) -> String {
    format!("{group}.url")
}

/// etcd's client Service and PodDisruptionBudget.
#[must_use]
pub fn etcd(cluster: &str) -> String {
    format!("{cluster}-etcd")
}

/// The headless Service that gives each etcd member a host name.
#[must_use]
pub fn etcd_peers(cluster: &str) -> String {
    format!("{cluster}-etcd-peers")
}

/// URL of etcd's client Service: any ready voter.
#[must_use]
pub fn etcd_url(namespace: &str, cluster: &str) -> String {
    format!("http://{}.{namespace}.svc:{ETCD_CLIENT_PORT}", etcd(cluster))
}

/// The pod of one etcd member, whose StatefulSet has the member's name and one replica.
#[must_use]
pub fn etcd_pod(member: &str) -> String {
    format!("{member}-0")
}

/// Host name of one etcd member. It ends with `svc` because the domain of a Kubernetes cluster is
/// not always `cluster.local`.
#[must_use]
pub fn etcd_member_host(namespace: &str, cluster: &str, member: &str) -> String {
    format!("{}.{}.{namespace}.svc", etcd_pod(member), etcd_peers(cluster))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_child_name_of_the_longest_cluster_name_is_valid() {
        let name = "c".repeat(40);
        let children = [
            cluster(&name),
            members_service(&name),
            config_map(&name),
            credentials(&name),
            etcd(&name),
            etcd_peers(&name),
            format!("{}-999", etcd(&name)),
            member(&name, 49),
        ];
        for child in children {
            assert!(child.len() <= 52, "{child}");
        }
    }
}
