//! Drives one CacheGroup from what is to what should be: observe, make the contract, write it to
//! the registry, say so in the status.
//!
//! A group has no finalizer: when it is deleted, its cluster's next reconcile sees a key without a
//! group and removes it. Its credential goes the same way, by the cluster's reconcile.

pub mod apply;
pub mod contract;
pub mod observe;
pub mod status;

pub use self::contract::contract;

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use tracing::Instrument;

use self::status::Written;
use crate::api::CacheGroup;
use crate::conditions::chain;
use crate::context::Context;
use crate::metrics::Kind;

/// The cluster's reconcile writes the credential within this time as a rule.
const CREDENTIAL: Duration = Duration::from_millis(250);
/// What is missing makes an event when it comes, unless Secrets are not watched.
const MISSING: Duration = Duration::from_secs(10);

/// Why a CacheGroup was not reconciled, by step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object cannot be read with this release's types.
    #[error("the CacheGroup cannot be read")]
    Undecodable(#[source] Box<InvalidObject>),
    /// Reading failed.
    #[error("the group could not be observed")]
    Observe(#[from] observe::Error),
    /// The registry does not take the contract; the status says so already.
    #[error("the registry is not available")]
    Registry,
    /// The status could not be written.
    #[error("the status could not be written")]
    Status(#[source] kube::Error),
}

impl Error {
    /// A stable word for metrics and events.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "undecodable",
            Self::Observe(_) => "observe",
            Self::Registry => "registry",
            Self::Status(_) => "status",
        }
    }
}

/// Reconciles one CacheGroup; the root span of everything that is logged on the way.
///
/// # Errors
/// The step that failed. What was written before it stands.
pub async fn reconcile(
    object: Arc<DeserializeGuard<CacheGroup>>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let (namespace, name) = name_of(object.as_ref());
    let span = tracing::info_span!(parent: None, "reconcile", kind = "CacheGroup", namespace, name);
    let started = Instant::now();
    let result = match &object.0 {
        Ok(_) => Box::pin(steps(&context, &namespace, &name)).instrument(span).await,
        Err(invalid) => Err(Error::Undecodable(Box::new(invalid.clone()))),
    };
    let word = result.as_ref().map_or_else(Error::kind, |_| "ok");
    context.metrics.reconciled(Kind::CacheGroup, word, started.elapsed());
    if result.is_ok() {
        context.succeeded(Kind::CacheGroup, &namespace, &name);
    }
    result
}

async fn steps(context: &Context, namespace: &str, name: &str) -> Result<Action, Error> {
    let (client, admin) = (&context.client, context.admin.as_ref());
    let Some(mut observed) = observe::observe(client, admin, namespace, name).await? else {
        return Ok(Action::await_change());
    };
    if observed.group.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let contract = contract(&observed.group);
    let accepted = status::accepted(&observed, contract.as_ref().map(|_| ()));
    // The entry is used up here; what is left of the observation is judged by the status.
    let entry = std::mem::replace(&mut observed.entry, Ok(None));
    let written = match contract {
        Ok(contract) if accepted.holds => apply::apply(admin, &observed, entry, &contract).await,
        _ => Written::NotTried,
    };
    let status = status::status(&observed, &accepted, &written);
    if status::write(client, &observed.group, &status).await.map_err(Error::Status)? {
        context.metrics.wrote(Kind::CacheGroup, 1);
        if !accepted.holds {
            let (reason, note) = (accepted.reason, &accepted.message);
            context.tell(&observed.group, EventType::Warning, reason, note).await;
        }
    }
    match written {
        Written::At(_) => Ok(Action::requeue(context.resync())),
        Written::NotTried => Ok(Action::requeue(MISSING)),
        Written::WaitsForCredential => Ok(Action::requeue(CREDENTIAL)),
        Written::Failed(_) => Err(Error::Registry),
    }
}

/// How long a CacheGroup that failed waits.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "the signature is the Controller's")]
pub fn error_policy(
    object: Arc<DeserializeGuard<CacheGroup>>,
    error: &Error,
    context: Arc<Context>,
) -> Action {
    let (namespace, name) = name_of(object.as_ref());
    match error {
        Error::Undecodable(_) => {
            tracing::warn!(namespace, name, error = chain(error), "reconcile failed");
            Action::await_change()
        }
        // A registry that starts is the normal course of a new cluster.
        Error::Registry => {
            let wait = context.failed(Kind::CacheGroup, &namespace, &name);
            Action::requeue(wait.min(MISSING))
        }
        Error::Observe(_) | Error::Status(_) => {
            tracing::warn!(namespace, name, error = chain(error), "reconcile failed");
            Action::requeue(context.failed(Kind::CacheGroup, &namespace, &name))
        }
    }
}

fn name_of(object: &impl Resource<DynamicType = ()>) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}
