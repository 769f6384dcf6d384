//! Reconciles one CacheGroup: observe, build the contract, write it to the registry, report it in
//! the status.
//!
//! A group has no finalizer: when it is deleted, the next reconcile of its cluster finds a registry
//! key without a group and removes it. Its credential is removed in the same way.

pub mod apply;
pub mod contract;
pub mod observe;
pub mod status;

pub use self::contract::contract;

use std::time::Duration;

use kube::runtime::controller::Action;
use kube::runtime::events::EventType;

use self::apply::ContractWrite;
use crate::api::CacheGroup;
use crate::context::ReconcileContext;
use crate::metrics::Kind;
use crate::reconcile::{Error, Reconciled};

/// Pause until the cluster's reconcile has usually written the credential.
const CREDENTIAL: Duration = Duration::from_millis(250);
/// Pause while something is missing. Its creation causes an event, unless it is a Secret and
/// Secrets are not watched.
const MISSING: Duration = Duration::from_secs(10);

impl Reconciled for CacheGroup {
    const KIND: Kind = Kind::CacheGroup;

    async fn steps(
        context: &ReconcileContext,
        namespace: &str,
        name: &str,
    ) -> Result<Action, Error> {
        let (client, admin) = (&context.client, context.admin.as_ref());
        let observed = observe::observe(client, admin, namespace, name).await;
        let Some(mut observed) = observed.map_err(|error| Error::Observe(error.into()))? else {
            return Ok(Action::await_change());
        };
        if observed.group.metadata.deletion_timestamp.is_some() {
            return Ok(Action::await_change());
        }
        let contract = contract(&observed.group);
        let accepted = status::accepted(&observed, contract.as_ref().map(|_| ()));
        // The write consumes the entry; the status needs only the rest of the observation.
        let entry = std::mem::replace(&mut observed.entry, Ok(None));
        let written = match contract {
            Ok(contract) if accepted.holds => {
                apply::apply(admin, &observed, entry, &contract).await
            }
            _ => ContractWrite::NotTried,
        };
        let status = status::status(&observed, &accepted, &written);
        if status::write(client, &observed.group, &status).await.map_err(Error::Status)? {
            context.metrics.wrote(Kind::CacheGroup, 1);
            if !accepted.holds {
                let (reason, note) = (accepted.reason, &accepted.message);
                context.record_event(&observed.group, EventType::Warning, reason, note).await;
            }
        }
        match written {
            ContractWrite::WrittenAt(_) => Ok(Action::requeue(context.resync())),
            ContractWrite::NotTried => Ok(Action::requeue(MISSING)),
            ContractWrite::WaitsForCredential => Ok(Action::requeue(CREDENTIAL)),
            ContractWrite::Failed(_) => Err(Error::Registry),
        }
    }
}
