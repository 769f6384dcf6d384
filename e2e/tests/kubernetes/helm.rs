//! helm and the operator's release.

use std::process::Command;
use std::time::{Duration, Instant};

use larder_e2e::cluster::{Cluster, repository};
use larder_e2e::{poll, process};

use crate::world::World;

/// Namespace of the operator.
pub(crate) const SYSTEM: &str = "larder-system";
/// Release of the operator.
pub(crate) const RELEASE: &str = "larder";

/// `helm VERB RELEASE` in one namespace.
pub(crate) fn helm(cluster: &Cluster, verb: &[&str], release: &str, namespace: &str) -> Command {
    let mut helm = cluster.program("helm");
    helm.args(verb).args([release, "--namespace", namespace]);
    helm
}

/// Installs or upgrades a release of the chart, and waits for its Deployment.
///
/// # Errors
/// The output of helm.
pub(crate) fn install(
    cluster: &Cluster,
    release: &str,
    namespace: &str,
    settings: &[&str],
) -> Result<String, String> {
    let mut helm = helm(cluster, &["upgrade", "--install"], release, namespace);
    helm.arg(repository().join("charts/larder")).args(["--wait", "--timeout", "120s"]);
    for setting in settings {
        helm.args(["--set", setting]);
    }
    process::output(&mut helm)
}

/// `helm test` of the operator's release.
///
/// # Errors
/// The output of helm.
pub(crate) fn helm_test(cluster: &Cluster, timeout: &str) -> Result<String, String> {
    process::output(helm(cluster, &["test"], RELEASE, SYSTEM).args(["--timeout", timeout]))
}

/// Installs the operator for some namespaces, whatever an earlier run left of it.
pub(crate) fn install_operator(cluster: &Cluster, settings: &[&str]) {
    let begin = Instant::now();
    let status = process::output(&mut helm(cluster, &["status"], RELEASE, SYSTEM));
    // helm refuses to upgrade a release whose last change was interrupted.
    if status.is_ok_and(|text| text.contains("STATUS: pending")) {
        process::output(&mut helm(cluster, &["uninstall"], RELEASE, SYSTEM)).expect("removed");
    }
    install(cluster, RELEASE, SYSTEM, settings).unwrap_or_else(|e| panic!("helm install: {e}"));
    println!("helm install: {:.1} s", begin.elapsed().as_secs_f64());
}

impl World {
    /// Scales the operator and waits until its pods are ready, or gone.
    pub(crate) fn scale_operator(&self, count: usize) {
        let replicas = format!("--replicas={count}");
        self.cluster.must(&["scale", "deployment/larder", &replicas, "--namespace", SYSTEM]);
        let selector = "app.kubernetes.io/name=larder-operator";
        let pods = ["pods", "--namespace", SYSTEM, "--selector", selector];
        poll::until("operators", Duration::from_secs(60), || {
            let exist = self.cluster.json(&pods)?["items"].as_array().map_or(0, Vec::len);
            let ready = self.cluster.pods(SYSTEM, selector)?.len();
            let as_wanted = (exist, ready) == (count, count);
            if as_wanted { Ok(()) } else { Err(format!("{exist} pods, {ready} ready")) }
        });
    }
}
