//! A CacheCluster with an external etcd that requires TLS and client certificates.

use std::time::Duration;

use larder_e2e::certificates::Authority;
use larder_e2e::cluster::Cluster;
use larder_e2e::poll;

use crate::grpc;
use crate::world::together;

const LIMIT: Duration = Duration::from_secs(90);
/// A mistake must appear in the status within this time.
const SOON: Duration = Duration::from_secs(10);

/// An etcd that accepts only TLS clients with a certificate of its authority.
const ETCD: &str = "
apiVersion: v1
kind: Service
metadata: {name: etcd}
spec: {selector: {app: etcd}, ports: [{port: 2379}]}
---
apiVersion: v1
kind: Pod
metadata: {name: etcd, labels: {app: etcd}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  containers:
  - name: etcd
    image: larder-etcd:dev
    args:
    - --data-dir=/data/etcd
    - --listen-client-urls=https://0.0.0.0:2379
    - --advertise-client-urls=https://etcd.NAMESPACE.svc:2379
    - --cert-file=/tls/tls.crt
    - --key-file=/tls/tls.key
    - --client-cert-auth
    - --trusted-ca-file=/tls/ca.crt
    securityContext:
      allowPrivilegeEscalation: false
      readOnlyRootFilesystem: true
      capabilities: {drop: [ALL]}
    volumeMounts: [{name: data, mountPath: /data}, {name: tls, mountPath: /tls, readOnly: true}]
  volumes: [{name: data, emptyDir: {}}, {name: tls, secret: {secretName: etcd-server}}]
";

const CACHE: &str = "
apiVersion: larder.dev/v1alpha1
kind: CacheCluster
metadata: {name: tenant}
spec:
  members: 2
  memory: 64Mi
  etcd:
    external:
      endpoints: [\"https://etcd.NAMESPACE.svc:2379\"]
      tlsSecretRef: {name: etcd-client}
---
apiVersion: larder.dev/v1alpha1
kind: CacheGroup
metadata: {name: health}
spec:
  clusterRef: {name: tenant}
  origin: {http: {urlTemplate: \"http://tenant-members.NAMESPACE.svc:7690/{key}\"}}
";

#[test]
fn an_external_etcd_is_used_with_tls_and_its_mistakes_are_reported() {
    let world = together();
    let cluster = &world.cluster;
    let namespace = &world.namespace("external");
    let apply = |yaml: &str| {
        cluster.apply(namespace, &yaml.replace("NAMESPACE", namespace)).expect("accepted");
    };
    let (authority, stranger) = (Authority::new(), Authority::new());
    let trust = |trusted: &Authority| {
        authority.secret(cluster, (namespace, "etcd-client"), "DNS:larder", trusted);
    };
    let server = format!("DNS:etcd.{namespace}.svc");
    authority.secret(cluster, (namespace, "etcd-server"), &server, &authority);
    apply(ETCD);

    apply(CACHE);
    let missing = etcd_not_ready(cluster, namespace, "there is no Secret etcd-client");
    trust(&authority);
    let ready = cluster.wait_true(namespace, "cachecluster/tenant", "Ready", LIMIT);
    cluster.wait_true(namespace, "cachegroup/health", "Ready", LIMIT);
    let get = || grpc::get(cluster, (namespace, "tenant"), "health", "healthz");
    let (answer, _) = poll::until("a value", LIMIT, get);
    assert!(grpc::value_of(&answer).is_string(), "{answer}");

    trust(&stranger);
    let wrong = etcd_not_ready(cluster, namespace, "invalid peer certificate");
    get().expect("reads go on");
    trust(&authority);
    let mended = cluster.wait_true(namespace, "cachecluster/tenant", "Ready", LIMIT);
    println!(
        "external etcd with TLS: a missing Secret reported after {:.1} s, Ready {:.1} s after it \
         was created; a wrong authority reported after {:.1} s, Ready {:.1} s after it was corrected",
        missing.as_secs_f64(),
        ready.as_secs_f64(),
        wrong.as_secs_f64(),
        mended.as_secs_f64()
    );
    // Waits for the finalizer, which removes the keys from etcd.
    let objects = ["cachecluster/tenant", "cachegroup/health"];
    cluster.must(&[&["delete", "--namespace", namespace], &objects[..]].concat());
    let objects = ["pod/etcd", "service/etcd", "--wait=false"];
    cluster.must(&[&["delete", "--namespace", namespace], &objects[..]].concat());
}

/// Waits until the condition EtcdReady is False for this reason.
fn etcd_not_ready(cluster: &Cluster, namespace: &str, reason: &str) -> Duration {
    let (condition, took) = poll::until(reason, SOON, || {
        let condition = cluster.condition(namespace, "cachecluster/tenant", "EtcdReady")?;
        let reported = condition.status == "False" && condition.message.contains(reason);
        if reported { Ok(condition) } else { Err(format!("{condition:?}")) }
    });
    println!("reported: {}", condition.message);
    took
}
