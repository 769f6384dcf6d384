//! Owns the two Services of a managed etcd: a headless one that gives each member a host name, and
//! one that leads to any voter.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::metadata::metadata;
use crate::cluster::labels::{self, Component};
use crate::cluster::names::{self, ETCD_CLIENT_PORT, ETCD_METRICS_PORT, ETCD_PEER_PORT};
use crate::cluster::validate::Cluster;

/// Gives each member a host name, also before it is ready: members must reach each other to become
/// ready.
#[must_use]
pub fn peers(cluster: &Cluster) -> Service {
    let ports = vec![
        port("client", ETCD_CLIENT_PORT),
        port("peer", ETCD_PEER_PORT),
        port("metrics", ETCD_METRICS_PORT),
    ];
    let mut service = service(cluster, names::etcd_peers(&cluster.name), ports);
    if let Some(spec) = &mut service.spec {
        spec.cluster_ip = Some("None".into());
        spec.publish_not_ready_addresses = Some(true);
    }
    service
}

/// Leads to any voter that is ready. A learner is never ready, so it gets no requests.
#[must_use]
pub fn client(cluster: &Cluster) -> Service {
    service(cluster, names::etcd(&cluster.name), vec![port("client", ETCD_CLIENT_PORT)])
}

fn service(cluster: &Cluster, name: String, ports: Vec<ServicePort>) -> Service {
    Service {
        metadata: metadata(cluster, name, Component::Etcd),
        spec: Some(ServiceSpec {
            ports: Some(ports),
            selector: Some(labels::selector(&cluster.name, Component::Etcd)),
            type_: Some("ClusterIP".into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.into())),
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::validate::example;

    #[test]
    fn members_have_host_names_before_they_are_ready_and_get_clients_only_after() {
        let cluster = example("{memory: 64Mi}");
        let (peers, client) = (peers(&cluster), client(&cluster));
        assert_eq!(peers.metadata.name.as_deref(), Some("shop-etcd-peers"));
        assert_eq!(peers.spec.unwrap().publish_not_ready_addresses, Some(true));
        assert_eq!(client.metadata.name.as_deref(), Some("shop-etcd"));
        let spec = client.spec.unwrap();
        assert_eq!((spec.publish_not_ready_addresses, spec.cluster_ip), (None, None));
        assert_eq!(spec.ports.unwrap().len(), 1);
    }
}
