//! Owns the composition of the running operator: client, probes, leader election, the two
//! controllers, and the order in which they stop. It does not know what a reconcile does.
//!
//! # Permissions
//! The operator uses each of these verbs and no other. In each watched namespace:
//!
//! | resource | verbs |
//! | --- | --- |
//! | `larder.dev` `cacheclusters` | get, list, watch, patch |
//! | `larder.dev` `cachegroups` | get, list, watch |
//! | `larder.dev` `cacheclusters/status`, `cachegroups/status` | patch |
//! | `larder.dev` `cacheclusters/finalizers` | update (where owners are checked) |
//! | `statefulsets`, `services`, `configmaps`, `poddisruptionbudgets` | list, watch, create, patch, delete |
//! | `secrets` | get, create, patch; also list and watch, unless cluster-wide |
//! | `pods` | list, patch, delete |
//! | `persistentvolumeclaims` | list, delete |
//! | `events.k8s.io` `events` | create, patch |
//!
//! In its own namespace: `coordination.k8s.io` `leases` get, create, update; `pods` get.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use futures::stream::{BoxStream, select_all};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ListParams;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Config, Controller, watcher};
use kube::{Api, Client, ResourceExt};
use larder_runtime::drain::Shutdown;
use larder_runtime::exit;
use larder_runtime::random::Random;
use larder_runtime::ready::Ready;
use larder_runtime::tasks::Tasks;
use larder_runtime::{admin, log, net};
use prometheus::Registry;

use crate::api::{CacheCluster, CacheGroup};
use crate::args::Run;
use crate::cluster::labels::MANAGER;
use crate::cluster::names;
use crate::cluster::validate::Images;
use crate::context::ReconcileContext;
use crate::etcd::adapter::Grpc;
use crate::lease::{Elector, Identity, Lost};
use crate::metrics::Metrics;
use crate::reconcile;

type Guarded<K> = DeserializeGuard<K>;

/// How many objects of one kind are reconciled concurrently.
const CONCURRENCY: u16 = 4;
/// Events within this time cause one reconcile. It is short because an edit must take effect within
/// a second.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// How long reconciles in flight may take to finish at a stop; shorter than the lease.
const DRAIN: Duration = Duration::from_secs(10);

/// Runs until a signal stops it or leadership is lost.
#[must_use]
pub fn run(args: &Run) -> ExitCode {
    if let Err(error) = log::init(args.log_format, &args.log) {
        return bad_configuration(&error);
    }
    let listener = match net::listen(args.admin_address, false) {
        Ok(listener) => listener,
        Err(error) => return bad_configuration(&CannotListen(args.admin_address, error)),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let ended = runtime.block_on(async {
        let tasks = Tasks::new(runtime.handle().clone());
        let ended = serve(args, listener, &tasks).await;
        if let Err(unfinished) = tasks.stop(DRAIN).await {
            tracing::warn!(%unfinished, "stopping although tasks have not finished");
        }
        ended
    });
    match ended {
        Ok(()) => ExitCode::from(exit::OK),
        Err(error) => fail(&error),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {0}: {1}")]
struct CannotListen(SocketAddr, std::io::Error);

#[expect(clippy::print_stderr, reason = "one plain line, whatever the format of the logs")]
fn bad_configuration(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("larder-operator: {}", crate::conditions::chain(error));
    ExitCode::from(exit::BAD_CONFIGURATION)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    tracing::error!(error = format!("{error:#}"), "the operator failed");
    ExitCode::from(exit::FAILURE)
}

async fn serve(args: &Run, listener: std::net::TcpListener, tasks: &Tasks) -> anyhow::Result<()> {
    let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    let (registry, ready, random) = (Registry::new(), Ready::new(), Random::from_entropy());
    let metrics = Metrics::register(&registry).context("cannot register metrics")?;
    let reachable = ready.gate("API server");
    admin::serve(listener, registry, ready.clone(), tasks)
        .context("cannot serve the admin port")?;
    let scope = args.scope();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespaces = scope.as_ref().map_or_else(|| "all".to_owned(), |names| names.join(",")),
        "operator starting"
    );
    // A standby replica is ready once it has reached the API server: it can take over.
    let client =
        Client::try_default().await.context("cannot configure a client of the API server")?;
    let me = match (&args.pod_name, &args.pod_uid) {
        (Some(name), Some(uid)) => Identity::of_pod(name, uid),
        _ => Identity::of_process(&random),
    };
    let (own, lease) = (&args.own_namespace, &args.lease_name);
    let elector = Elector::new(&client, own, lease, me.clone(), random.clone());
    let stop = shutdown.wait();
    tokio::pin!(stop);

    let waiting = async {
        wait_for_resources(&client, scope.as_deref()).await;
        reachable.open();
        elector.acquire().await
    };
    let mut held = tokio::select! {
        held = waiting => held,
        () = &mut stop => return Ok(()),
    };
    tracing::info!(identity = me.as_str(), "lease acquired, this replica is the leader");
    metrics.set_leader(true);
    let images = images(args);
    let instance = me.as_str().rsplit('/').nth(1).unwrap_or("larder-operator").to_owned();
    let admin = Arc::new(Grpc);
    let context =
        ReconcileContext::new(client.clone(), admin, metrics.clone(), images, random, instance);
    start(&client, scope, Arc::new(context), tasks);

    let lost = tokio::select! {
        lost = elector.hold(&mut held) => Some(lost),
        () = &mut stop => None,
    };
    metrics.set_leader(false);
    ready.close("stopping");
    match lost {
        // Reconciles in flight must not write concurrently with the new holder: exit without drain.
        Some(lost @ (Lost::Taken(_) | Lost::Expired(_))) => Err(lost).context("leadership lost"),
        None => {
            let drained = tasks.stop(DRAIN).await;
            elector.release(held).await;
            drained.context("reconciles have not finished")
        }
    }
}

fn images(args: &Run) -> Images {
    let default = Images::default();
    Images {
        member: args.node_image.clone().unwrap_or(default.member),
        etcd: args.etcd_image.clone().unwrap_or(default.etcd),
    }
}

/// Waits until both resources can be listed in every namespace, so that the CRDs and the operator
/// can be installed in any order.
async fn wait_for_resources(client: &Client, scope: Option<&[String]>) {
    let params = ListParams::default().limit(1);
    let namespaces: Vec<Option<&String>> =
        scope.map_or_else(|| vec![None], |names| names.iter().map(Some).collect());
    for namespace in namespaces {
        let namespace = namespace.map(String::as_str);
        let clusters: Api<Guarded<CacheCluster>> = api(client, namespace);
        let groups: Api<Guarded<CacheGroup>> = api(client, namespace);
        loop {
            let listed = async {
                clusters.list(&params).await?;
                groups.list(&params).await
            };
            match listed.await {
                Ok(_) => break,
                Err(error) => {
                    let namespace = namespace.unwrap_or("all");
                    tracing::warn!(%error, namespace, "cannot list the resources yet");
                }
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Starts both controllers in every watched namespace.
fn start(
    client: &Client,
    scope: Option<Vec<String>>,
    context: Arc<ReconcileContext>,
    tasks: &Tasks,
) {
    let namespaces =
        scope.map_or_else(|| vec![None], |names| names.into_iter().map(Some).collect());
    let mut streams = Vec::new();
    let mut stores = Vec::new();
    for namespace in &namespaces {
        let controllers = Controllers::new(client, namespace.as_deref());
        stores.push(controllers.clusters.store());
        streams.extend(controllers.run(client, namespace.as_deref(), &context, tasks));
    }
    tasks.spawn("reconcile", async move {
        // `error_policy` has logged the failures.
        select_all(streams).for_each(|()| async {}).await;
    });
    let stopping = tasks.stopping().clone();
    tasks.spawn("remove old metrics", async move {
        let mut every = tokio::time::interval(Duration::from_secs(10));
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = every.tick() => context.metrics.retain(|namespace, name| {
                    let reference = ObjectRef::new(name).within(namespace);
                    stores.iter().any(|store| store.get(&reference).is_some())
                }),
            }
        }
    });
}

/// The two controllers of one namespace. Each needs the other's store to map events to objects.
struct Controllers {
    clusters: Controller<Guarded<CacheCluster>>,
    groups: Controller<Guarded<CacheGroup>>,
}

impl Controllers {
    fn new(client: &Client, namespace: Option<&str>) -> Self {
        let config = || Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
        let every = watcher::Config::default;
        Self {
            clusters: Controller::new(api(client, namespace), every()).with_config(config()),
            groups: Controller::new(api(client, namespace), every()).with_config(config()),
        }
    }

    fn run(
        self,
        client: &Client,
        namespace: Option<&str>,
        context: &Arc<ReconcileContext>,
        tasks: &Tasks,
    ) -> [BoxStream<'static, ()>; 2] {
        let Self { clusters, groups } = self;
        let (cluster_store, group_store) = (clusters.store(), groups.store());
        let every = watcher::Config::default;
        let managed = || every().labels(&format!("app.kubernetes.io/managed-by={MANAGER}"));
        let mut clusters = clusters
            .owns(api::<StatefulSet>(client, namespace), managed())
            .owns(api::<Service>(client, namespace), managed())
            .owns(api::<ConfigMap>(client, namespace), managed())
            .owns(api::<PodDisruptionBudget>(client, namespace), managed())
            .watches(api::<Guarded<CacheGroup>>(client, namespace), every(), cluster_of);
        let groups_of_cluster = {
            let store = group_store.clone();
            move |cluster: Guarded<CacheCluster>| {
                let (namespace, name) = (cluster.namespace(), cluster.name_any());
                groups_where(&store, move |group| {
                    group.namespace() == namespace && group.spec.cluster_ref.name == name
                })
            }
        };
        let watched = api::<Guarded<CacheCluster>>(client, namespace);
        let mut groups = groups.watches(watched, every(), groups_of_cluster);
        if namespace.is_some() {
            // Only the metadata of Secrets is kept in memory.
            let secrets = || api::<PartialObjectMeta<Secret>>(client, namespace);
            let stores = (cluster_store, group_store.clone());
            clusters = clusters.watches(secrets(), every(), move |secret| {
                clusters_with(&stores.0, &stores.1, &secret.name_any())
            });
            groups = groups.watches(secrets(), every(), move |secret| {
                let name = secret.name_any();
                groups_where(&group_store, move |group| depends_on(group, &name))
            });
        }
        let stopping = || {
            let token = tasks.stopping().clone();
            async move { token.cancelled().await }
        };
        let clusters = clusters
            .graceful_shutdown_on(stopping())
            .run(reconcile::reconcile, reconcile::error_policy, context.clone())
            .map(|_| ())
            .boxed();
        let groups = groups
            .graceful_shutdown_on(stopping())
            .run(reconcile::reconcile, reconcile::error_policy, context.clone())
            .map(|_| ())
            .boxed();
        [clusters, groups]
    }
}

/// The CacheCluster of a group.
fn cluster_of(group: Guarded<CacheGroup>) -> Option<ObjectRef<Guarded<CacheCluster>>> {
    let group = group.0.ok()?;
    let namespace = group.namespace()?;
    Some(ObjectRef::new(&group.spec.cluster_ref.name).within(&namespace))
}

/// True when the group depends on the Secret of that name.
fn depends_on(group: &CacheGroup, secret: &str) -> bool {
    group.url_secret().is_some_and(|reference| reference.name == secret)
        || names::credentials(&group.spec.cluster_ref.name) == secret
}

fn groups_where(
    store: &Store<Guarded<CacheGroup>>,
    chosen: impl Fn(&CacheGroup) -> bool,
) -> Vec<ObjectRef<Guarded<CacheGroup>>> {
    let groups = store.state();
    let readable = groups.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    readable
        .filter(|group| chosen(group))
        .map(|group| {
            ObjectRef::new(&group.name_any()).within(&group.namespace().unwrap_or_default())
        })
        .collect()
}

/// The clusters that depend on the Secret of that name: through a group, as their etcd's
/// certificates, or as the members' Secret.
fn clusters_with(
    clusters: &Store<Guarded<CacheCluster>>,
    groups: &Store<Guarded<CacheGroup>>,
    secret: &str,
) -> Vec<ObjectRef<Guarded<CacheCluster>>> {
    let groups = groups.state();
    let depends = |cluster: &CacheCluster| {
        let name = cluster.name_any();
        let external = cluster.spec.etcd.external.as_ref();
        let tls = external.and_then(|external| external.tls_secret_ref.as_ref());
        let of_group = |guarded: &Arc<Guarded<CacheGroup>>| {
            guarded
                .0
                .as_ref()
                .is_ok_and(|group| group.spec.cluster_ref.name == name && depends_on(group, secret))
        };
        names::credentials(&name) == secret
            || tls.is_some_and(|reference| reference.name == secret)
            || groups.iter().any(of_group)
    };
    let clusters = clusters.state();
    let readable = clusters.iter().filter_map(|guarded| guarded.0.as_ref().ok());
    readable
        .filter(|cluster| depends(cluster))
        .map(|cluster| {
            ObjectRef::new(&cluster.name_any()).within(&cluster.namespace().unwrap_or_default())
        })
        .collect()
}
