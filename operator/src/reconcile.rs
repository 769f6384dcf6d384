//! Owns what stands around the steps of every kind's reconcile: the root span, the clock, the
//! counters, and how long an object that failed waits. It knows no kind's rules.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Resource;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::Action;
use tracing::Instrument;

use crate::conditions::chain;
use crate::context::Context;
use crate::metrics::Kind;

/// A kind of object that is driven from what is to what should be.
pub trait Reconciled: Resource<DynamicType = ()> + Sync {
    /// Which one, for metrics and logs.
    const KIND: Kind;

    /// Why its steps end early.
    type Error: Failure;

    /// Takes every step for the object of that name. What was written before a failure stands.
    fn steps(
        context: &Context,
        namespace: &str,
        name: &str,
    ) -> impl Future<Output = Result<Action, Self::Error>> + Send;
}

/// Why the steps of a kind end early.
pub trait Failure: std::error::Error + Send + 'static {
    /// A stable word for metrics and events.
    fn kind(&self) -> &'static str;

    /// When to try again.
    fn retry(&self) -> Retry;
}

/// When an object that failed is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// When somebody has edited it.
    AfterEdit,
    /// With growing pauses.
    Later,
    /// With growing pauses up to this one, and without a word in the log: it is part of the normal
    /// course.
    Quietly(Duration),
}

/// Why an object was not reconciled.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// The object cannot be read with this release's types.
    #[error("the object cannot be read")]
    Undecodable(#[source] Box<InvalidObject>),
    /// A step failed.
    #[error(transparent)]
    Step(E),
}

impl<E: Failure> Error<E> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "undecodable",
            Self::Step(error) => error.kind(),
        }
    }
}

/// Reconciles one object; the root span of everything that is logged on the way.
///
/// # Errors
/// The step that failed. What was written before it stands.
pub async fn reconcile<K: Reconciled>(
    object: Arc<DeserializeGuard<K>>,
    context: Arc<Context>,
) -> Result<Action, Error<K::Error>> {
    let (kind, (namespace, name)) = (K::KIND.name(), name_of(&object));
    let span = tracing::info_span!(parent: None, "reconcile", kind, namespace, name);
    let started = Instant::now();
    let result = match &object.0 {
        Ok(_) => {
            let steps = Box::pin(K::steps(&context, &namespace, &name));
            steps.instrument(span).await.map_err(Error::Step)
        }
        Err(invalid) => Err(Error::Undecodable(Box::new(invalid.clone()))),
    };
    let word = result.as_ref().map_or_else(Error::kind, |_| "ok");
    context.metrics.reconciled(K::KIND, word, started.elapsed());
    if result.is_ok() {
        context.succeeded(K::KIND, &namespace, &name);
    }
    result
}

/// How long an object that failed waits.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "the signature is the Controller's")]
pub fn error_policy<K: Reconciled>(
    object: Arc<DeserializeGuard<K>>,
    error: &Error<K::Error>,
    context: Arc<Context>,
) -> Action {
    let (kind, (namespace, name)) = (K::KIND.name(), name_of(&object));
    let retry = match error {
        Error::Undecodable(_) => Retry::AfterEdit,
        Error::Step(error) => error.retry(),
    };
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

/// Namespace and name, also of an object that cannot be read.
fn name_of<K: Reconciled>(object: &DeserializeGuard<K>) -> (String, String) {
    let metadata = object.meta();
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
