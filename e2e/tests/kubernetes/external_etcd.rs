//! A CacheCluster over an etcd that somebody else runs, with TLS and client certificates.

use std::time::Duration;

use larder_e2e::certificates::Authority;
use larder_e2e::poll;

use crate::grpc;
use crate::world::{World, world};

const NAMESPACE: &str = "own-etcd";
const LIMIT: Duration = Duration::from_secs(90);
/// A mistake is to show within this time.
const SOON: Duration = Duration::from_secs(10);

/// Somebody's etcd: it talks TLS only, and only to clients with a certificate of its authority.
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
    - --advertise-client-urls=https://etcd.own-etcd.svc:2379
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
      endpoints: [\"https://etcd.own-etcd.svc:2379\"]
      tlsSecretRef: {name: etcd-client}
---
apiVersion: larder.dev/v1alpha1
kind: CacheGroup
metadata: {name: health}
spec:
  clusterRef: {name: tenant}
  origin: {http: {urlTemplate: \"http://tenant-members.own-etcd.svc:7690/{key}\"}}
";

#[test]
fn an_etcd_of_others_is_used_by_tls_and_its_mistakes_are_told() {
    let world = world();
    let cluster = &world.cluster;
    let (authority, stranger) = (Authority::new(), Authority::new());
    let client = |trusted: &Authority| {
        authority.secret(cluster, (NAMESPACE, "etcd-client"), "DNS:larder", trusted);
    };
    authority.secret(cluster, (NAMESPACE, "etcd-server"), "DNS:etcd.own-etcd.svc", &authority);
    cluster.apply(NAMESPACE, ETCD).expect("accepted");

    cluster.apply(NAMESPACE, CACHE).expect("accepted, but the Secret is missing");
    let missing = etcd_not_ready(&world, "there is no Secret etcd-client");
    client(&authority);
    let ready = cluster.wait_true(NAMESPACE, "cachecluster/tenant", "Ready", LIMIT);
    cluster.wait_true(NAMESPACE, "cachegroup/health", "Ready", LIMIT);
    let get = || grpc::get(cluster, (NAMESPACE, "tenant"), "health", "healthz");
    let (answer, _) = poll::until("a value", LIMIT, get);
    assert!(grpc::value_of(&answer).is_string(), "{answer}");

    client(&stranger);
    let wrong = etcd_not_ready(&world, "invalid peer certificate");
    get().expect("reads go on");
    client(&authority);
    let mended = cluster.wait_true(NAMESPACE, "cachecluster/tenant", "Ready", LIMIT);
    println!(
        "external etcd with TLS: a missing Secret told after {:.1} s, Ready {:.1} s after it came, \
         a wrong authority told after {:.1} s, Ready {:.1} s after it was mended",
        missing.as_secs_f64(),
        ready.as_secs_f64(),
        wrong.as_secs_f64(),
        mended.as_secs_f64()
    );
    let all = ["delete", "cachecluster/tenant", "cachegroup/health", "--namespace", NAMESPACE];
    cluster.must(&all);
    cluster.must(&["delete", "pod/etcd", "service/etcd", "--namespace", NAMESPACE]);
}

/// Waits until the condition says that etcd is not ready, and why.
fn etcd_not_ready(world: &World, why: &str) -> Duration {
    let (told, took) = poll::until(why, SOON, || {
        let told = world.cluster.condition(NAMESPACE, "cachecluster/tenant", "EtcdReady")?;
        let clear = told.status == "False" && told.message.contains(why);
        if clear { Ok(told) } else { Err(format!("{told:?}")) }
    });
    println!("told: {}", told.message);
    took
}
