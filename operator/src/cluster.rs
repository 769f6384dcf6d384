//! Reconciles one CacheCluster. The steps of its [`Reconciled`] are the whole pipeline on one
//! screen: observe, validate, plan, build, apply, status.
//!
//! Each step takes the output types of the steps before it, never their functions. Only [`apply`],
//! [`status`] and [`finalize`] write. The process can stop after any write: the next reconcile
//! continues from what exists.

pub mod annotations;
pub mod apply;
pub mod build;
pub mod finalize;
pub mod labels;
pub mod names;
pub mod observe;
pub mod plan;
pub mod pods;
pub mod prepare;
pub mod status;
pub mod validate;

use std::time::Duration;

use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use larder_proto::keys::Keys;

use self::apply::Applied;
use self::finalize::Deletion;
use self::observe::Observed;
use self::plan::{Health, Plan, Step};
use self::validate::{Cluster, Etcd};
use crate::api::{CacheCluster, CacheClusterStatus};
use crate::conditions::chain;
use crate::context::ReconcileContext;
use crate::etcd;
use crate::metrics::Kind;
use crate::reconcile::{Error, Reconciled, name_of};

/// Pause while etcd changes: a learner's progress causes no event.
const CHANGING: Duration = Duration::from_millis(700);
/// For this long after a condition turned false a changing etcd is reconciled every [`CHANGING`],
/// afterwards every [`UNREADY`].
const WATCHED_CLOSELY_SECONDS: i64 = 120;
/// Pause while a condition is false. Pods cause events when they change.
const UNREADY: Duration = Duration::from_secs(5);
/// Pause after a step of etcd's membership, before the next one.
const AFTER_STEP: Duration = Duration::from_millis(100);
/// Pause while the registry of a deleted CacheCluster cannot be cleared.
const DELETING: Duration = Duration::from_secs(5);

impl Reconciled for CacheCluster {
    const KIND: Kind = Kind::CacheCluster;

    async fn steps(
        context: &ReconcileContext,
        namespace: &str,
        name: &str,
    ) -> Result<Action, Error> {
        let (client, admin) = (&context.client, context.admin.as_ref());
        let observed = observe::observe(client, admin, namespace, name).await;
        let Some(observed) = observed.map_err(|error| Error::Observe(error.into()))? else {
            context.metrics.forget(namespace, name);
            return Ok(Action::await_change());
        };
        if observed.cluster.metadata.deletion_timestamp.is_some() {
            return delete(context, &observed).await;
        }
        let cluster = match validate::validate(&observed.cluster, &context.images) {
            Ok(cluster) => cluster,
            Err(error) => {
                report_refusal(context, &observed, "Invalid", &error).await;
                return Err(Error::Validate(error.into()));
            }
        };
        finalize::protect(client, &observed.cluster).await.map_err(Error::Finalize)?;
        let plan = plan_etcd(&cluster, &observed);
        let prepared = prepare::prepare(&cluster, &observed, plan.as_ref());
        let applying = apply::apply(client, admin, &cluster, &observed, prepared);
        let applied = match Box::pin(applying).await {
            Ok(applied) => applied,
            Err(error) if error.is_refusal() => {
                report_refusal(context, &observed, "Refused", &error).await;
                return Err(Error::Refused(error.into()));
            }
            Err(error) => return Err(Error::Apply(error.into())),
        };
        context.metrics.wrote(Kind::CacheCluster, applied.writes);
        record_rebuild(context, &observed, plan.as_ref()).await;
        record_step(context, &observed, &applied).await;
        let status = status::status(&cluster, &observed, plan.as_ref(), &applied);
        write_status(context, &observed.cluster, &status).await?;
        Ok(next(context, plan.as_ref(), &observed, &applied, &status))
    }
}

/// The plan of a managed etcd; `None` for an external one.
fn plan_etcd(cluster: &Cluster, observed: &Observed) -> Option<Plan> {
    let Etcd::Managed(managed) = &cluster.etcd else { return None };
    let newest = |member: &plan::EtcdMember| {
        let set = build::etcd::stateful_set(cluster, managed, member);
        set.spec.template.metadata?.annotations?.remove(annotations::CONFIG_HASH)
    };
    Some(plan::plan(&plan::state::read(observed, cluster, managed, &newest)))
}

async fn delete(context: &ReconcileContext, observed: &Observed) -> Result<Action, Error> {
    let (client, admin) = (&context.client, context.admin.as_ref());
    match finalize::finalize(client, admin, observed).await.map_err(Error::Finalize)? {
        Deletion::Waiting(error) => {
            tracing::warn!(error = chain(&error), "the registry cannot be cleared yet");
            Ok(Action::requeue(DELETING))
        }
        Deletion::Abandoned(error) => {
            let (namespace, name) = name_of(&observed.cluster.metadata);
            let keys = Keys::new(&namespace, &name);
            let note = format!(
                "keys under {} remain in the external etcd: {}",
                keys.root(),
                chain(&error)
            );
            let (object, reason) = (&observed.cluster, "RegistryNotCleared");
            context.record_event(object, EventType::Warning, reason, &note).await;
            Ok(Action::await_change())
        }
        Deletion::None | Deletion::Done => Ok(Action::await_change()),
    }
}

/// Reports in status and event what must be edited. The event is recorded only when the status
/// changed, not in every reconcile.
async fn report_refusal(
    context: &ReconcileContext,
    observed: &Observed,
    reason: &'static str,
    error: &(dyn std::error::Error + Send + Sync + 'static),
) {
    let message = chain(error);
    let status = status::refused(&observed.cluster, reason, &message, &observed.now);
    match write_status(context, &observed.cluster, &status).await {
        Ok(true) => {
            let object = &observed.cluster;
            context.record_event(object, EventType::Warning, reason, &message).await;
        }
        Ok(false) => {}
        Err(error) => tracing::warn!(error = chain(&error), "could not report the refusal"),
    }
}

async fn write_status(
    context: &ReconcileContext,
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
            message = ready.map(|condition| condition.message.as_str()),
            "status written"
        );
    }
    Ok(wrote)
}

/// Records once that etcd is rebuilt: while the new seed's StatefulSet did not exist yet.
async fn record_rebuild(context: &ReconcileContext, observed: &Observed, plan: Option<&Plan>) {
    let Some(Plan { health: Health::Rebuilding, members, .. }) = plan else { return };
    let exists = |name: &str| {
        observed.children.stateful_sets.iter().any(|set| set.metadata.name.as_deref() == Some(name))
    };
    if let Some(seed) = members.iter().find(|member| !exists(&member.name)) {
        let note = format!("etcd lost its quorum for good; {} starts a new cluster", seed.name);
        let (object, reason) = (&observed.cluster, "EtcdRebuilding");
        context.record_event(object, EventType::Warning, reason, &note).await;
    }
}

async fn record_step(context: &ReconcileContext, observed: &Observed, applied: &Applied) {
    let (step, result) = &applied.step;
    let (reason, note) = match step {
        Step::Settled | Step::Wait => return,
        Step::AddLearner { name, .. } => {
            ("EtcdMemberAdded", format!("added {name} to etcd as a learner"))
        }
        Step::Promote { name, .. } => {
            ("EtcdMemberPromoted", format!("promoted {name} to a voter of etcd"))
        }
        Step::Remove { name, why, .. } => {
            ("EtcdMemberRemoved", format!("removed {name} from etcd: {}", why.message()))
        }
        Step::Restart { pod } => (
            "EtcdPodRestarted",
            format!("deleted {pod}, which did not run, to start it from the newest template"),
        ),
    };
    let object = &observed.cluster;
    match result {
        Ok(()) => context.record_event(object, EventType::Normal, reason, &note).await,
        // A learner that has not caught up is the normal case.
        Err(etcd::Error::NotYet { .. }) => {}
        Err(error) => {
            let note = chain(error);
            context.record_event(object, EventType::Warning, "EtcdStepFailed", &note).await;
        }
    }
}

/// When the next reconcile follows without an event.
fn next(
    context: &ReconcileContext,
    plan: Option<&Plan>,
    observed: &Observed,
    applied: &Applied,
    status: &CacheClusterStatus,
) -> Action {
    let stepped = !matches!(applied.step, (Step::Settled | Step::Wait, _) | (_, Err(_)));
    let changing = plan.is_some_and(|plan| plan.health != Health::Healthy);
    let unready = status.conditions.iter().find(|condition| condition.status != "True");
    let seconds = unready
        .map(|condition| observed.now.0.as_second() - condition.last_transition_time.0.as_second());
    Action::requeue(match seconds {
        _ if stepped => AFTER_STEP,
        Some(seconds) if changing && seconds < WATCHED_CLOSELY_SECONDS => CHANGING,
        Some(_) => UNREADY,
        None if changing => CHANGING,
        None => context.resync(),
    })
}
