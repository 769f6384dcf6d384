//! Owns the names of child objects. The longest suffix has 12 characters; with a cluster's 40 that
//! stays within 52, the longest StatefulSet name whose pods can be created (the label
//! `controller-revision-hash` adds 11 and ends at 63).

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

/// The headless Service that names each member.
#[must_use]
pub fn members_service(cluster: &str) -> String {
    format!("{cluster}-members")
}

/// The ConfigMap with the members' configuration file.
#[must_use]
pub fn config_map(cluster: &str) -> String {
    format!("{cluster}-config")
}

/// The Secret with the origins' credentials, one file per group.
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

/// The headless Service that names each etcd member.
#[must_use]
pub fn etcd_peers(cluster: &str) -> String {
    format!("{cluster}-etcd-peers")
}

/// URL at which any ready voter answers clients.
#[must_use]
pub fn etcd_url(namespace: &str, cluster: &str) -> String {
    format!("http://{}.{namespace}.svc:{}", etcd(cluster), super::etcd::CLIENT_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_child_of_the_longest_cluster_fits_a_stateful_set() {
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
