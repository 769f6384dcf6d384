//! Owns the members' two Services: a headless one that gives each member a host name, and one that
//! leads to any member.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use larder_proto::names::{ADMIN_PORT, GRPC_PORT, HTTP_PORT, PEER_PORT};

use super::super::metadata::metadata;
use crate::cluster::labels::{self, Component};
use crate::cluster::names;
use crate::cluster::validate::Cluster;

/// Gives each ready member a host name (`<pod>.<cluster>-members`), for ring-aware clients and
/// sidecars. Members find each other through the registry, so one that is not ready needs none.
#[must_use]
pub fn members(cluster: &Cluster) -> Service {
    let ports = vec![
        port("grpc", GRPC_PORT, Some("kubernetes.io/h2c")),
        port("peer", PEER_PORT, Some("kubernetes.io/h2c")),
        port("http", HTTP_PORT, Some("http")),
        port("admin", ADMIN_PORT, Some("http")),
    ];
    service(cluster, names::members_service(&cluster.name), Some("None".into()), ports)
}

/// Leads clients that do not know the ring to any ready member.
#[must_use]
pub fn client(cluster: &Cluster) -> Service {
    let ports = vec![
        port("grpc", GRPC_PORT, Some("kubernetes.io/h2c")),
        port("http", HTTP_PORT, Some("http")),
    ];
    service(cluster, names::cluster(&cluster.name), None, ports)
}

fn service(
    cluster: &Cluster,
    name: String,
    cluster_ip: Option<String>,
    ports: Vec<ServicePort>,
) -> Service {
    Service {
        metadata: metadata(cluster, name, Component::Member),
        spec: Some(ServiceSpec {
            cluster_ip,
            ports: Some(ports),
            selector: Some(labels::selector(&cluster.name, Component::Member)),
            type_: Some("ClusterIP".into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, number: u16, protocol: Option<&str>) -> ServicePort {
    ServicePort {
        name: Some(name.into()),
        port: i32::from(number),
        target_port: Some(IntOrString::String(name.into())),
        protocol: Some("TCP".into()),
        app_protocol: protocol.map(Into::into),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::validate::example;

    fn ports(service: &Service) -> Vec<i32> {
        let spec = service.spec.as_ref().expect("a spec");
        spec.ports.iter().flatten().map(|port| port.port).collect()
    }

    #[test]
    fn the_headless_service_has_every_port_and_only_ready_members() {
        let service = members(&example("{memory: 64Mi}"));
        assert_eq!(service.metadata.name.as_deref(), Some("shop-members"));
        assert_eq!(ports(&service), [7600, 7601, 7680, 7690]);
        let spec = service.spec.expect("a spec");
        assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
        assert_eq!(spec.publish_not_ready_addresses, None);
    }

    #[test]
    fn the_client_service_has_only_the_ports_that_clients_use() {
        let service = client(&example("{memory: 64Mi}"));
        assert_eq!(service.metadata.name.as_deref(), Some("shop"));
        assert_eq!(ports(&service), [7600, 7680]);
    }
}
