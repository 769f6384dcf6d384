//! The files in `manifests/examples` pass every check and configure what the README describes.

use std::fs;
use std::path::Path;

use larder_operator::api::{Document, read_documents};
use larder_operator::cluster::validate::{Images, validate};
use larder_operator::{cluster, group};
use larder_proto::config::{Mode, NodeConfig};

fn example(name: &str) -> String {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/examples"));
    fs::read_to_string(folder.join(name)).expect("the file is checked in")
}

fn documents(name: &str) -> Vec<Document> {
    read_documents(&example(name)).unwrap_or_else(|problems| {
        let lines: Vec<_> = problems.iter().map(|problem| problem.in_file(name)).collect();
        panic!("{}", lines.join("\n"))
    })
}

#[test]
fn every_example_passes_the_check() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/examples"));
    for file in fs::read_dir(folder).expect("a folder") {
        let name = file.expect("readable").file_name().into_string().expect("plain");
        if name != "prometheus.yaml" {
            documents(&name);
        }
    }
}

#[test]
fn the_shop_is_a_valid_cluster_and_a_valid_group() {
    let documents = documents("shop.yaml");
    let [Document::Cluster(shop), Document::Group(students)] = documents.as_slice() else {
        panic!("{documents:?}")
    };
    let shop = validate(shop, &Images::default()).expect("valid");
    assert_eq!(shop.members, 3);
    let Mode::Member(member) = cluster::build::node_config(&shop).mode else { panic!("a member") };
    assert!(member.capacity_bytes > 300 << 20);
    let contract = group::contract(students).expect("valid");
    assert_eq!(contract.freshness.stale_if_error_ms, 600_000);
    assert_eq!(students.spec.cluster_ref.name, shop.name);
}

#[test]
fn the_sidecars_configuration_can_be_read_by_the_node() {
    let text = example("sidecar.yaml");
    let maps: Vec<k8s_openapi::api::core::v1::ConfigMap> = text
        .split("\n---\n")
        .filter(|part| part.contains("kind: ConfigMap"))
        .map(|part| serde_saphyr::from_str(part).expect("a ConfigMap"))
        .collect();
    let file = &maps[0].data.as_ref().expect("data")["node.json"];
    let config: NodeConfig = serde_json::from_str(file).expect("a node's configuration");
    let Mode::Sidecar(sidecar) = config.mode else { panic!("a sidecar") };
    assert_eq!(sidecar.members, ["shop-members:7600"]);
}

#[test]
fn the_sidecar_is_a_native_one_and_passes_the_restricted_standard() {
    let text = example("sidecar.yaml");
    let part = text.split("\n---\n").find(|part| part.contains("kind: Job")).expect("a Job");
    let job: k8s_openapi::api::batch::v1::Job = serde_saphyr::from_str(part).expect("a Job");
    let pod = job.spec.expect("a spec").template.spec.expect("a pod");
    let sidecar = &pod.init_containers.as_ref().expect("a sidecar")[0];
    assert_eq!(sidecar.restart_policy.as_deref(), Some("Always"));
    let security = pod.security_context.as_ref().expect("a security context");
    assert_eq!(security.run_as_non_root, Some(true));
    for container in pod.containers.iter().chain([sidecar]) {
        let security = container.security_context.as_ref().expect("a security context");
        assert_eq!(security.allow_privilege_escalation, Some(false));
        assert_eq!(security.read_only_root_filesystem, Some(true));
    }
}
