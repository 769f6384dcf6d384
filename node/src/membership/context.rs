//! What the two membership tasks share.

use std::sync::Arc;
use std::time::Duration;

use larder_backoff::{Backoff, BackoffPolicy};
use larder_proto::keys::Keys;
use larder_runtime::random::Random;

use super::board::Board;
use super::registry::RegistryClient;
use super::visibility::Visibility;

#[derive(Clone)]
pub(super) struct MembershipContext {
    pub(super) registry: Arc<dyn RegistryClient>,
    pub(super) board: Arc<Board>,
    pub(super) visibility: Visibility,
    pub(super) keys: Keys,
    pub(super) lease_ttl: Duration,
    pub(super) retry: BackoffPolicy,
    pub(super) random: Random,
}

impl MembershipContext {
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.retry)
    }

    pub(super) fn renewal_interval(&self) -> Duration {
        renewal_interval(self.lease_ttl)
    }
}

/// How often a lease is renewed, and the limit of one registry call.
pub(super) fn renewal_interval(lease_ttl: Duration) -> Duration {
    lease_ttl / 3
}
