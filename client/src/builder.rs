//! Settings of a client: one struct, checked once, defaults in one place.

use std::sync::Arc;
use std::time::Duration;

use crate::client::Client;
use crate::error::BuildError;
use crate::network::{Network, Tcp};
use crate::retry::Retry;
use crate::seed::Seed;

/// Makes a [`Client`]. Every setting has a default but the members.
#[must_use]
pub struct Builder {
    members: Vec<String>,
    network: Option<Arc<dyn Network>>,
    connect_timeout: Duration,
    pub(crate) settings: Settings,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) try_timeout: Duration,
    pub(crate) retry: Retry,
    pub(crate) in_flight: usize,
    pub(crate) follow_ring: bool,
    pub(crate) refresh: Duration,
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
            near_bytes: 0,
            near_ttl: Duration::from_secs(1),
            batch_keys: larder_proto::names::MAX_BATCH_KEYS,
            // A batch of the largest values would pass any bound; this is what one call may cost.
            max_answer_bytes: 64 * 1024 * 1024,
        }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            network: None,
            connect_timeout: Duration::from_secs(1),
            settings: Settings::default(),
        }
    }
}

impl Builder {
    /// Adds places to start from, each `host:port`: members, or names that stand for several (a
    /// headless Service). A name is resolved to all its addresses, again on an interval and
    /// while members are missing.
    pub fn members<I>(mut self, members: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.members.extend(members.into_iter().map(Into::into));
        self
    }

    /// Adds one name that stands for all members: `host:port` of a headless Service.
    pub fn dns(self, name: impl Into<String>) -> Self {
        self.members([name.into()])
    }

    /// Limit of a whole call with all its tries. Default 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Limit of one try at one member, after which another one is asked. Default 2 s. It should
    /// exceed the origin's time-out, or a slow load is taken for a silent member.
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.settings.try_timeout = timeout;
        self
    }

    /// Limit of making a connection. Default 1 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// What happens when all known members failed. Default: three more rounds after 1, 2 and 4 s.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// Calls in flight at one time; as many again may wait for their turn, more are refused as
    /// [`crate::Error::Busy`]. Default 1024.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.settings.in_flight = calls;
        self
    }

    /// Whether to learn the ring from the members and to go to a key's owner. Default yes. Turn
    /// it off where the members' own addresses cannot be reached, as behind a port-forward.
    pub fn follow_ring(mut self, follow: bool) -> Self {
        self.settings.follow_ring = follow;
        self
    }

    /// How old names and ring may get while calls are made. Default 10 s. Answers that show a
    /// newer ring make it sooner.
    pub fn refresh_every(mut self, interval: Duration) -> Self {
        self.settings.refresh = interval;
        self
    }

    /// Keeps copies of answers here: at most `bytes` (0 keeps none, the default), none longer
    /// than `ttl` or than the answer had left. An invalidation by another client is not seen
    /// within that life.
    pub fn near_cache(mut self, bytes: u64, ttl: Duration) -> Self {
        self.settings.near_bytes = bytes;
        self.settings.near_ttl = ttl;
        self
    }

    /// Most keys in one request; longer lists are sent in parts. Default 1000, as the members'.
    pub fn max_batch_keys(mut self, keys: usize) -> Self {
        self.settings.batch_keys = keys;
        self
    }

    /// Most bytes in one answer. Default 64 MiB.
    pub fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_answer_bytes = bytes;
        self
    }

    /// Puts another network in place of TCP and the system's resolver.
    pub fn network(mut self, network: Arc<dyn Network>) -> Self {
        self.network = Some(network);
        self
    }

    /// Checks the settings. Opens nothing and needs no runtime: connections are made by calls.
    ///
    /// # Errors
    /// No member, an address that is not `host:port`, a limit of zero.
    pub fn build(self) -> Result<Client, BuildError> {
        if self.members.is_empty() {
            return Err(BuildError::NoMembers);
        }
        let seed = |text: &String| {
            Seed::parse(text).ok_or_else(|| BuildError::Address { address: text.clone() })
        };
        let seeds = self.members.iter().map(seed).collect::<Result<Vec<_>, _>>()?;
        self.settings.check()?;
        if self.connect_timeout.is_zero() {
            return Err(BuildError::Zero { setting: "the connect time-out" });
        }
        let network = self.network.unwrap_or_else(|| Arc::new(Tcp::new(self.connect_timeout)));
        Ok(Client::new(network, seeds, self.settings))
    }
}

impl Settings {
    fn check(&self) -> Result<(), BuildError> {
        let zeros = [
            ("the time-out", self.timeout.is_zero()),
            ("the time-out of a try", self.try_timeout.is_zero()),
            ("the interval of refreshes", self.refresh.is_zero()),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(builder: Builder) -> String {
        builder.build().expect_err("refused").to_string()
    }

    #[test]
    fn what_cannot_work_is_refused_before_the_first_call() {
        let one = || Builder::default().members(["127.0.0.1:7600"]);
        assert_eq!(error(Builder::default()), "no member was named");
        assert_eq!(error(one().dns("shop")), r#""shop" is not host:port"#);
        assert_eq!(error(one().timeout(Duration::ZERO)), "the time-out must be above zero");
        assert!(one().build().is_ok(), "outside a runtime");
    }
}
