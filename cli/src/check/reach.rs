//! The path from here to the members, step by step: name, port, health, registry, ring, the other
//! members, their groups. The first failure ends it, because later steps would fail for the same
//! reason.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use larder_client::network::{self, Network};
use larder_client::{RingResponse, StatusResponse};
use larder_proto::v1::admin_client::AdminClient;
use larder_proto::v1::{RingRequest, StatusRequest};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::finding::Finding;
use crate::connect::Connection;

/// Limit of one step.
const STEP: Duration = Duration::from_secs(2);

const START: &str = "start members with `larder up`, or forward a port: \
                     kubectl port-forward service/NAME 7600";
const NOT_LARDER: &str = "something else may listen there; members take gRPC on port 7600";
const REGISTRY_LOST: &str = "reads continue with the last ring; look at the etcd pods or the \
                             condition EtcdReady";

pub(super) async fn check(connection: &Connection) -> anyhow::Result<Vec<Finding>> {
    let address = connection.address()?;
    let mut findings = Vec::new();
    let network = connection.network()?;
    if let Err(last) = steps(&network, &address, &mut findings).await {
        findings.push(last);
    }
    Ok(findings)
}

async fn steps(
    network: &Arc<dyn Network>,
    address: &str,
    done: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let addresses = resolve(address, done).await?;
    connect(&addresses, done).await?;
    let channel = channel(network, address)
        .await
        .map_err(|detail| Finding::fail("speaks-grpc", detail, NOT_LARDER))?;
    health(&channel, done).await?;
    let status = status(&channel).await.map_err(|detail| {
        Finding::fail("admin-answers", detail, "members serve larder.v1.Admin, a sidecar does not")
    })?;
    done.push(Finding::ok(
        "admin-answers",
        format!("member {}, version {}", status.member, status.version),
    ));
    registry(&status, done);
    let mut admin = AdminClient::new(channel);
    let ring =
        step(async { admin.ring(RingRequest {}).await.map_err(|s| s.message().to_owned()) }).await;
    let ring = ring.map_err(|d| Finding::fail("ring-joined", d, "ask again in a second"))?;
    let ring = ring.into_inner();
    joined(&status, &ring, done);
    members(network, &ring, done).await;
    groups(&status, done);
    Ok(())
}

async fn step<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    match timeout(STEP, future).await {
        Ok(ended) => ended,
        Err(_) => Err(format!("no answer within {} s", STEP.as_secs())),
    }
}

async fn resolve(address: &str, done: &mut Vec<Finding>) -> Result<Vec<SocketAddr>, Finding> {
    let name = "endpoint-resolves";
    let found = step(async {
        let found = tokio::net::lookup_host(address).await.map_err(|e| e.to_string())?;
        Ok(found.collect::<Vec<_>>())
    });
    let hint = "names of Services resolve inside the Kubernetes cluster only";
    let found =
        found.await.map_err(|detail| Finding::fail(name, format!("{address}: {detail}"), hint))?;
    if found.is_empty() {
        return Err(Finding::fail(name, format!("{address} has no address"), hint));
    }
    let text: Vec<String> = found.iter().map(ToString::to_string).collect();
    done.push(Finding::ok(name, text.join(", ")));
    Ok(found)
}

async fn connect(addresses: &[SocketAddr], done: &mut Vec<Finding>) -> Result<(), Finding> {
    let mut last = String::new();
    for address in addresses {
        match step(async { TcpStream::connect(address).await.map_err(|e| e.to_string()) }).await {
            Ok(_) => {
                done.push(Finding::ok("port-accepts", address.to_string()));
                return Ok(());
            }
            Err(detail) => last = format!("{address}: {detail}"),
        }
    }
    Err(Finding::fail("port-accepts", last, START))
}

async fn channel(network: &Arc<dyn Network>, address: &str) -> Result<Channel, String> {
    let connected = network::connect(network.clone(), address, STEP);
    step(async { connected.await.map_err(|error| error.to_string()) }).await
}

async fn health(channel: &Channel, done: &mut Vec<Finding>) -> Result<(), Finding> {
    let name = "health-serving";
    let mut client = HealthClient::new(channel.clone());
    let answer = step(async {
        let request = HealthCheckRequest { service: String::new() };
        client.check(request).await.map_err(|s| s.message().to_owned())
    });
    let answer = answer.await.map_err(|detail| Finding::fail(name, detail, NOT_LARDER))?;
    match answer.into_inner().status() {
        ServingStatus::Serving => {
            done.push(Finding::ok(name, "serving"));
            Ok(())
        }
        other => Err(Finding::fail(
            name,
            other.as_str_name().to_lowercase(),
            "the member starts or drains; /readyz on its port 7690 lists what it waits for",
        )),
    }
}

async fn status(channel: &Channel) -> Result<StatusResponse, String> {
    let mut client = AdminClient::new(channel.clone());
    let answer =
        step(async { client.status(StatusRequest {}).await.map_err(|s| s.message().to_owned()) });
    Ok(answer.await?.into_inner())
}

fn registry(status: &StatusResponse, done: &mut Vec<Finding>) {
    let name = "registry-connected";
    done.push(if status.registry_connected {
        Finding::ok(name, format!("{} is connected", status.member))
    } else {
        let detail = format!("{} has lost its connection", status.member);
        Finding::warn(name, detail, REGISTRY_LOST)
    });
}

fn joined(status: &StatusResponse, ring: &RingResponse, done: &mut Vec<Finding>) {
    let name = "ring-joined";
    let revision = ring.revision;
    done.push(if ring.members.iter().any(|m| m.name == status.member) {
        let of = ring.members.len();
        Finding::ok(name, format!("{} is one of {of} at revision {revision}", status.member))
    } else {
        let detail = format!("{} is not in its ring at revision {revision}", status.member);
        Finding::fail(name, detail, "it registers as soon as the registry answers; see its log")
    });
}

async fn members(network: &Arc<dyn Network>, ring: &RingResponse, done: &mut Vec<Finding>) {
    let asked = ring.members.iter().map(|member| async move {
        let status = match channel(network, &member.grpc_address).await {
            Ok(channel) => status(&channel).await,
            Err(detail) => Err(detail),
        };
        (member, status)
    });
    let answers = join_all(asked).await;
    let reached: Vec<&StatusResponse> =
        answers.iter().filter_map(|(_, s)| s.as_ref().ok()).collect();
    let silent: Vec<&str> =
        answers.iter().filter(|(_, s)| s.is_err()).map(|(m, _)| m.name.as_str()).collect();
    done.push(if silent.is_empty() {
        Finding::ok("members-reachable", format!("{} of {}", reached.len(), answers.len()))
    } else {
        Finding::warn(
            "members-reachable",
            format!("no answer from {}", silent.join(", ")),
            "from outside Kubernetes this is expected: the ring holds pod addresses",
        )
    });
    agree(
        "ring-agreed",
        "ring revisions",
        reached.iter().map(|s| s.ring_revision),
        done,
        "members see a change within a second; ask again",
    );
    agree(
        "versions-agree",
        "versions",
        reached.iter().map(|s| s.version.clone()),
        done,
        "expected during a rolling update only",
    );
}

fn agree<T: Ord + std::fmt::Display>(
    name: &str,
    what: &str,
    values: impl Iterator<Item = T>,
    done: &mut Vec<Finding>,
    hint: &'static str,
) {
    let mut values: Vec<T> = values.collect();
    values.sort();
    values.dedup();
    let text: Vec<String> = values.iter().map(ToString::to_string).collect();
    done.push(match values.len() {
        0 => Finding::warn(name, "no member was reached", hint),
        1 => Finding::ok(name, format!("all at {}", text[0])),
        _ => Finding::warn(name, format!("{what} {}", text.join(", ")), hint),
    });
}

fn groups(status: &StatusResponse, done: &mut Vec<Finding>) {
    let names: Vec<&str> = status.groups.iter().map(|g| g.name.as_str()).collect();
    done.push(if names.is_empty() {
        Finding::warn(
            "groups-known",
            "none",
            "apply a CacheGroup whose clusterRef names this CacheCluster",
        )
    } else {
        Finding::ok("groups-known", names.join(", "))
    });
}
