//! Drives one CacheCluster from what is to what should be. The steps of its [`Reconciled`] are the
//! whole way on one screen: observe, validate, plan, prepare, apply, status.
//!
//! Every step takes what the steps before it gave. Only [`apply`], [`status`] and [`finalize`]
//! write, and each may be the last thing that this process does: the next reconcile goes on from
//! whatever stands.

pub mod apply;
pub mod build;
pub mod finalize;
pub mod observe;
pub mod plan;
pub mod prepare;
pub mod status;
pub mod validate;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;

use self::apply::Applied;
use self::finalize::Deletion;
use self::observe::Observed;
use self::plan::{Health, Plan, Step};
use self::validate::{Cluster, Etcd};
use crate::api::{CacheCluster, CacheClusterStatus};
use crate::conditions::chain;
use crate::context::Context;
use crate::etcd;
use crate::metrics::Kind;
use crate::reconcile::{Failure, Reconciled, Retry};

/// While something is on its way, look again this soon: a learner's progress makes no event.
const SOON: Duration = Duration::from_millis(700);
/// So long after etcd ceased to be ready it is looked at every [`SOON`], then every [`LATER`].
const CLOSELY_SECONDS: i64 = 120;
const LATER: Duration = Duration::from_secs(5);
/// After a step of ours, to take the next one.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Why a CacheCluster was not reconciled, by step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading failed.
    #[error("the cluster could not be observed")]
    Observe(#[from] observe::Error),
    /// The spec cannot be used as it is written; it waits for an edit.
    #[error("the spec is not valid")]
    Validate(#[source] validate::Error),
    /// The API server refused an object; it waits for an edit, and is tried again now and then.
    #[error("an object was refused")]
    Refused(#[source] apply::Error),
    /// Writing failed.
    #[error("the cluster could not be applied")]
    Apply(#[source] apply::Error),
    /// The finalizer could not be set or removed.
    #[error("the finalizer could not be written")]
    Finalize(#[source] kube::Error),
    /// The status could not be written.
    #[error("the status could not be written")]
    Status(#[source] kube::Error),
}

impl Failure for Error {
    fn kind(&self) -> &'static str {
        match self {
            Self::Observe(_) => "observe",
            Self::Validate(_) => "invalid",
            Self::Refused(_) => "refused",
            Self::Apply(_) => "apply",
            Self::Finalize(_) => "finalize",
            Self::Status(_) => "status",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Validate(_) => Retry::AfterEdit,
            _ => Retry::Later,
        }
    }
}

impl Reconciled for CacheCluster {
    const KIND: Kind = Kind::CacheCluster;
    type Error = Error;

    async fn steps(context: &Context, namespace: &str, name: &str) -> Result<Action, Error> {
        let (client, admin) = (&context.client, context.admin.as_ref());
        let Some(observed) = observe::observe(client, admin, namespace, name).await? else {
            context.metrics.forget(namespace, name);
            return Ok(Action::await_change());
        };
        if observed.cluster.metadata.deletion_timestamp.is_some() {
            return delete(context, &observed).await;
        }
        let cluster = match validate::validate(&observed.cluster, &context.images) {
            Ok(cluster) => cluster,
            Err(error) => return Err(refuse(context, &observed, Error::Validate(error)).await),
        };
        finalize::protect(client, &observed.cluster).await.map_err(Error::Finalize)?;
        let plan = plan_etcd(&cluster, &observed);
        let prepared = prepare::prepare(&cluster, &observed, plan.as_ref());
        let applying = apply::apply(client, admin, &cluster, &observed, prepared);
        let applied = match Box::pin(applying).await {
            Ok(applied) => applied,
            Err(error) if error.is_refusal() => {
                return Err(refuse(context, &observed, Error::Refused(error)).await);
            }
            Err(error) => return Err(Error::Apply(error)),
        };
        context.metrics.wrote(Kind::CacheCluster, applied.writes);
        tell_rebuild(context, &observed, plan.as_ref()).await;
        tell_step(context, &observed, &applied).await;
        let status = status::status(&cluster, &observed, plan.as_ref(), &applied);
        write_status(context, &observed.cluster, &status).await?;
        Ok(next(context, plan.as_ref(), &observed, &applied, &status))
    }
}

/// A managed etcd's plan; none for an external one.
fn plan_etcd(cluster: &Cluster, observed: &Observed) -> Option<Plan> {
    let Etcd::Managed(managed) = &cluster.etcd else { return None };
    let newest = |member: &plan::EtcdMember| {
        let set = build::etcd::stateful_set(cluster, managed, member);
        let annotations = set.spec.template.metadata?.annotations?;
        annotations.get(build::etcd::statefulset::CONFIG_HASH).cloned()
    };
    let wanted = usize::try_from(managed.members).unwrap_or(1);
    let naming = build::etcd::naming(cluster);
    let durable = managed.storage.is_some();
    let seen = plan::seen::seen(observed, naming, wanted, durable, &newest);
    Some(plan::plan(&seen))
}

async fn delete(context: &Context, observed: &Observed) -> Result<Action, Error> {
    let (client, admin) = (&context.client, context.admin.as_ref());
    match finalize::finalize(client, admin, observed).await.map_err(Error::Finalize)? {
        Deletion::Waiting(error) => {
            tracing::warn!(error = chain(&error), "the registry cannot be cleared yet");
            Ok(Action::requeue(Duration::from_secs(5)))
        }
        Deletion::Abandoned(error) => {
            let note = format!("keys stay behind in the external etcd: {}", chain(&error));
            context.tell(&observed.cluster, EventType::Warning, "RegistryNotCleared", &note).await;
            Ok(Action::await_change())
        }
        Deletion::None | Deletion::Done => Ok(Action::await_change()),
    }
}

/// Says in status and event what must be edited.
async fn refuse(context: &Context, observed: &Observed, error: Error) -> Error {
    let (reason, said) = match &error {
        Error::Validate(inner) => ("Invalid", chain(inner)),
        other => ("Refused", std::error::Error::source(other).map_or_else(String::new, chain)),
    };
    let status = status::refused(&observed.cluster, reason, &said, &observed.now);
    match write_status(context, &observed.cluster, &status).await {
        // Said once, not at every look.
        Ok(true) => context.tell(&observed.cluster, EventType::Warning, reason, &said).await,
        Ok(false) => {}
        Err(error) => tracing::warn!(error = chain(&error), "the refusal could not be written"),
    }
    error
}

async fn write_status(
    context: &Context,
    cluster: &CacheCluster,
    status: &CacheClusterStatus,
) -> Result<bool, Error> {
    let (namespace, name) = name_of(&cluster.metadata);
    context.metrics.conditions(&namespace, &name, status);
    let wrote = status::write(&context.client, cluster, status).await.map_err(Error::Status)?;
    if wrote {
        context.metrics.wrote(Kind::CacheCluster, 1);
        let ready = status.conditions.first();
        tracing::info!(
            ready = status.ready,
            reason = ready.map(|condition| condition.reason.as_str()),
            why = ready.map(|condition| condition.message.as_str()),
            "status written"
        );
    }
    Ok(wrote)
}

/// Says once that etcd is begun again: while the new seed's StatefulSet was not there yet.
async fn tell_rebuild(context: &Context, observed: &Observed, plan: Option<&Plan>) {
    let Some(Plan { health: Health::Rebuilding, members, .. }) = plan else { return };
    let stands = |name: &str| {
        observed.children.stateful_sets.iter().any(|set| set.metadata.name.as_deref() == Some(name))
    };
    if let Some(seed) = members.iter().find(|member| !stands(&member.name)) {
        let note = format!("etcd lost its quorum for good; {} begins it again", seed.name);
        context.tell(&observed.cluster, EventType::Warning, "EtcdRebuilding", &note).await;
    }
}

async fn tell_step(context: &Context, observed: &Observed, applied: &Applied) {
    let (step, result) = &applied.step;
    let (reason, note) = match step {
        Step::Rest | Step::Wait => return,
        Step::AddLearner { name, .. } => {
            ("EtcdMemberAdded", format!("{name} joins etcd as a learner"))
        }
        Step::Promote { name, .. } => ("EtcdMemberPromoted", format!("{name} has a vote in etcd")),
        Step::Remove { name, why, .. } => {
            ("EtcdMemberRemoved", format!("{name} was removed from etcd: {}", why.words()))
        }
        Step::Restart { pod } => (
            "EtcdPodRestarted",
            format!("{pod} did not run and was started again with the newest template"),
        ),
    };
    match result {
        Ok(()) => context.tell(&observed.cluster, EventType::Normal, reason, &note).await,
        // Not yet is the normal course of a learner.
        Err(etcd::Error::NotYet { .. }) => {}
        Err(error) => {
            let note = chain(error);
            context.tell(&observed.cluster, EventType::Warning, "EtcdStepFailed", &note).await;
        }
    }
}

/// When to look again.
fn next(
    context: &Context,
    plan: Option<&Plan>,
    observed: &Observed,
    applied: &Applied,
    status: &CacheClusterStatus,
) -> Action {
    let stepped = !matches!(applied.step, (Step::Rest | Step::Wait, _) | (_, Err(_)));
    let moving = plan.is_some_and(|plan| plan.health != Health::Healthy);
    let unready = status.conditions.iter().find(|condition| condition.status != "True");
    let seconds = unready
        .map(|condition| observed.now.0.as_second() - condition.last_transition_time.0.as_second());
    Action::requeue(match seconds {
        _ if stepped => AT_ONCE,
        // Pods make events when they change; what stays wrong for long is not watched closely.
        Some(seconds) if moving && seconds < CLOSELY_SECONDS => SOON,
        Some(_) => LATER,
        None if moving => SOON,
        None => context.resync(),
    })
}

fn name_of(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
