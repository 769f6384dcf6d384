//! Owns what every kind's reconcile has in common: the root span, the duration, the counters, the
//! errors, and how long an object that failed waits. It knows no kind's rules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use tracing::Instrument;

use crate::conditions::chain;
use crate::context::ReconcileContext;
use crate::metrics::Kind;

/// Longest pause between tries to reach a registry: one that starts is part of a cluster's normal
/// start.
const REGISTRY_PAUSE: Duration = Duration::from_secs(10);

/// A kind of object that is reconciled.
pub trait Reconciled: Resource<DynamicType = ()> + Sync {
    /// The kind, for metrics and logs.
    const KIND: Kind;

    /// Takes every step for the object of that name.
    ///
    /// # Errors
    /// The step that failed. What was written before it remains.
    fn steps(
        context: &ReconcileContext,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Action, Error>> + Send;
}

/// The error of a step.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why an object was not reconciled, by step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This release's types do not match the object; it waits for an edit.
    #[error("the object cannot be decoded")]
    Undecodable(#[source] Box<InvalidObject>),
    /// Reading failed.
    #[error("the state could not be observed")]
    Observe(#[source] Cause),
    /// The spec cannot be used as it is written; it waits for an edit.
    #[error("the spec is not valid")]
    Validate(#[source] Cause),
    /// The API server refused an object, which an edit or a changed policy can mend.
    #[error("an object was refused")]
    Refused(#[source] Cause),
    /// Writing failed.
    #[error("the objects could not be applied")]
    Apply(#[source] Cause),
    /// The finalizer could not be set or removed.
    #[error("the finalizer could not be written")]
    Finalize(#[source] kube::Error),
    /// The registry does not take the contract; the status already says why.
    #[error("the registry is not available")]
    Registry,
    /// The status could not be written.
    #[error("the status could not be written")]
    Status(#[source] kube::Error),
}

/// When an object that failed is tried again.
enum Retry {
    /// After the next edit.
    AfterEdit,
    /// After growing pauses.
    Later,
    /// After growing pauses up to this one, and without a log line.
    Quietly(Duration),
}

impl Error {
    /// The label `result` of the reconcile metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "undecodable",
            Self::Observe(_) => "observe",
            Self::Validate(_) => "invalid",
            Self::Refused(_) => "refused",
            Self::Apply(_) => "apply",
            Self::Finalize(_) => "finalize",
            Self::Registry => "registry",
            Self::Status(_) => "status",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Undecodable(_) | Self::Validate(_) => Retry::AfterEdit,
            Self::Registry => Retry::Quietly(REGISTRY_PAUSE),
            Self::Observe(_)
            | Self::Refused(_)
            | Self::Apply(_)
            | Self::Finalize(_)
            | Self::Status(_) => Retry::Later,
        }
    }
}

/// Reconciles one object. Opens the root span of every log line on the way.
///
/// # Errors
/// The step that failed. What was written before it remains.
pub async fn reconcile<K: Reconciled>(
    object: Arc<DeserializeGuard<K>>,
    context: Arc<ReconcileContext>,
) -> Result<Action, Error> {
    let (kind, (namespace, name)) = (K::KIND.name(), name_of(object.meta()));
    let span = tracing::info_span!(parent: None, "reconcile", kind, namespace, name);
    let started = Instant::now();
    let result = match &object.0 {
        Ok(_) => Box::pin(K::steps(&context, &namespace, &name)).instrument(span).await,
        Err(invalid) => Err(Error::Undecodable(Box::new(invalid.clone()))),
    };
    let label = result.as_ref().map_or_else(Error::kind, |_| "ok");
    context.metrics.reconciled(K::KIND, label, started.elapsed());
    if result.is_ok() {
        context.succeeded(K::KIND, &namespace, &name);
    }
    result
}

/// Logs the error and says when the object is tried again.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "the signature is the Controller's")]
pub fn error_policy<K: Reconciled>(
    object: Arc<DeserializeGuard<K>>,
    error: &Error,
    context: Arc<ReconcileContext>,
) -> Action {
    let (kind, (namespace, name)) = (K::KIND.name(), name_of(object.meta()));
    let retry = error.retry();
    if !matches!(retry, Retry::Quietly(_)) {
        tracing::warn!(kind, namespace, name, error = chain(error), "reconcile failed");
    }
    let pause = || context.failed(K::KIND, &namespace, &name);
    match retry {
        Retry::AfterEdit => Action::await_change(),
        Retry::Later => Action::requeue(pause()),
        Retry::Quietly(longest) => Action::requeue(pause().min(longest)),
    }
}

/// Namespace and name of an object.
#[must_use]
pub fn name_of(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
