//! Settings of a client: one struct, checked once, defaults in one place.

use std::time::Duration;

use crate::balance::Balance;
use crate::error::BuildError;
use crate::retry::Retry;

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) try_timeout: Duration,
    pub(crate) retry: Retry,
    pub(crate) in_flight: usize,
    pub(crate) follow_ring: bool,
    pub(crate) refresh: Duration,
    pub(crate) balance: Balance,
    pub(crate) zone: Option<String>,
    pub(crate) near_bytes: u64,
    pub(crate) near_ttl: Duration,
    pub(crate) batch_keys: usize,
    pub(crate) max_answer_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            try_timeout: Duration::from_secs(2),
            retry: Retry::default(),
            in_flight: 1024,
            follow_ring: true,
            refresh: Duration::from_secs(10),
            balance: Balance::default(),
            zone: None,
            near_bytes: 0,
            near_ttl: Duration::from_secs(1),
            batch_keys: larder_proto::names::MAX_BATCH_KEYS,
            // A batch of the largest values exceeds any sensible bound; this limits one call.
            max_answer_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Settings {
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let zeros = [
            ("the timeout", self.timeout.is_zero()),
            ("the timeout of a try", self.try_timeout.is_zero()),
            ("the refresh interval", self.refresh.is_zero()),
            ("the number of calls in flight", self.in_flight == 0),
            ("the number of keys in a batch", self.batch_keys == 0),
            ("the size of an answer", self.max_answer_bytes == 0),
        ];
        match zeros.into_iter().find(|(_, zero)| *zero) {
            Some((setting, _)) => Err(BuildError::Zero { setting }),
            None => Ok(()),
        }
    }
}
