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

use std::time::Duration;

use kube::runtime::controller::Action;
use kube::runtime::events::EventType;

use self::status::Written;
use crate::api::CacheGroup;
use crate::context::Context;
use crate::metrics::Kind;
use crate::reconcile::{Failure, Reconciled, Retry};

/// The cluster's reconcile writes the credential within this time as a rule.
const CREDENTIAL: Duration = Duration::from_millis(250);
/// What is missing makes an event when it comes, unless Secrets are not watched.
const MISSING: Duration = Duration::from_secs(10);

/// Why a CacheGroup was not reconciled, by step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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

impl Failure for Error {
    fn kind(&self) -> &'static str {
        match self {
            Self::Observe(_) => "observe",
            Self::Registry => "registry",
            Self::Status(_) => "status",
        }
    }

    fn retry(&self) -> Retry {
        match self {
            // A registry that starts is the normal course of a new cluster.
            Self::Registry => Retry::Quietly(MISSING),
            Self::Observe(_) | Self::Status(_) => Retry::Later,
        }
    }
}

impl Reconciled for CacheGroup {
    const KIND: Kind = Kind::CacheGroup;
    type Error = Error;

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
            Ok(contract) if accepted.holds => {
                apply::apply(admin, &observed, entry, &contract).await
            }
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
}
