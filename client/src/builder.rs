//! Builds a [`Client`]: collects the settings and checks them once.

use std::sync::Arc;
use std::time::Duration;

use crate::balance::Balance;
use crate::client::Client;
use crate::endpoint::{Endpoint, EndpointError};
use crate::error::BuildError;
use crate::network::{Network, Tcp};
use crate::retry::Retry;
use crate::settings::Settings;
use crate::tls::{self, Tls};

/// Builds a [`Client`]. Only the members have no default.
#[must_use]
pub struct Builder {
    members: Vec<String>,
    network: Option<Arc<dyn Network>>,
    tls: Option<Tls>,
    connect_timeout: Duration,
    settings: Settings,
}

impl Client {
    /// A builder with every setting at its default.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            network: None,
            tls: None,
            connect_timeout: Duration::from_secs(1),
            settings: Settings::default(),
        }
    }
}

impl Builder {
    /// Adds endpoints to start from, each as [`Endpoint`] reads it: members, or names that resolve
    /// to several members (a headless Service). The client resolves a name to all its addresses
    /// and repeats that on an interval and while members are down.
    pub fn members<I>(mut self, members: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.members.extend(members.into_iter().map(Into::into));
        self
    }

    /// Adds one name that resolves to all members: a headless Service.
    pub fn dns(self, name: impl Into<String>) -> Self {
        self.members([name.into()])
    }

    /// Time limit of a whole call with all its tries. Default 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How long one try waits for a member that does not answer anything; then the next member is
    /// tried. Default 2 s. The member is probed in the last half second of it (with less than a
    /// second, from half of it on, for half a second): one that answers is only slow with this key,
    /// and the try continues until the call's deadline.
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.settings.try_timeout = timeout;
        self
    }

    /// Time limit of opening a connection. Default 1 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// What to do when all known members failed. Default: three more rounds after 1, 2 and 4 s.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// Limit of concurrent calls. As many again are queued; further ones fail with
    /// [`Error::Busy`](crate::Error::Busy). Default 1024.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.settings.in_flight = calls;
        self
    }

    /// Whether to learn the ring from the members and to send each key to its owner. Default
    /// true. Turn it off where the members' own addresses cannot be reached, for example behind a
    /// port-forward.
    pub fn follow_ring(mut self, follow: bool) -> Self {
        self.settings.follow_ring = follow;
        self
    }

    /// How old resolved names and the ring get while calls are made. Default 10 s. An answer that
    /// shows a newer ring triggers a refresh earlier.
    pub fn refresh_every(mut self, interval: Duration) -> Self {
        self.settings.refresh = interval;
        self
    }

    /// How calls that any member may take are distributed over the members. Default
    /// [`Balance::RoundRobin`].
    pub fn balance(mut self, balance: Balance) -> Self {
        self.settings.balance = balance;
        self
    }

    /// The zone of this process. Reads that are spread over all members then go to those of this
    /// zone, as long as one of them answers. Zones whose clients read more load their members more.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.settings.zone = Some(zone.into());
        self
    }

    /// Keeps copies of answers in this process: at most `bytes` (0, the default, keeps none), each
    /// for at most `ttl` and at most the answer's remaining time to live. Within that time an
    /// invalidation by another client is not seen.
    pub fn near_cache(mut self, bytes: u64, ttl: Duration) -> Self {
        self.settings.near_bytes = bytes;
        self.settings.near_ttl = ttl;
        self
    }

    /// Limit of the keys in one request; longer lists are split. Default 1000, like the members'.
    pub fn max_batch_keys(mut self, keys: usize) -> Self {
        self.settings.batch_keys = keys;
        self
    }

    /// Limit of the bytes in one response. Default 64 MiB.
    pub fn max_answer_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_answer_bytes = bytes;
        self
    }

    /// Replaces TCP and the system's resolver.
    pub fn network(mut self, network: Arc<dyn Network>) -> Self {
        self.network = Some(network);
        self
    }

    /// Calls the members over TLS. Needed for `https://` endpoints; with it, endpoints without a
    /// scheme are called over TLS too.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Checks the settings and reads the certificates. Opens no connection and needs no runtime:
    /// calls open the connections.
    ///
    /// # Errors
    /// No endpoint, a text that is not an endpoint, a limit of zero, certificates that cannot be
    /// used, an endpoint whose scheme contradicts the TLS settings.
    pub fn build(self) -> Result<Client, BuildError> {
        self.settings.check()?;
        let settings = self.settings.clone();
        let (network, endpoints) = self.network_and_endpoints()?;
        Ok(Client::new(network, endpoints, settings))
    }

    /// The network that the client would use, for calls that the client does not offer
    /// ([`network::connect`](crate::network::connect)).
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn into_network(self) -> Result<Arc<dyn Network>, BuildError> {
        Ok(self.network_and_endpoints()?.0)
    }

    fn network_and_endpoints(self) -> Result<(Arc<dyn Network>, Vec<Endpoint>), BuildError> {
        if self.members.is_empty() {
            return Err(BuildError::NoMembers);
        }
        let endpoints = self.members.iter().map(|text| text.parse());
        let endpoints = endpoints.collect::<Result<Vec<Endpoint>, EndpointError>>()?;
        if self.connect_timeout.is_zero() {
            return Err(BuildError::Zero { setting: "the connect timeout" });
        }
        let network = self.network.unwrap_or_else(|| Arc::new(Tcp::new(self.connect_timeout)));
        Ok((tls::network(network, self.tls, &endpoints)?, endpoints))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(builder: Builder) -> String {
        builder.build().expect_err("refused").to_string()
    }

    #[test]
    fn invalid_settings_are_refused_before_the_first_call() {
        let one = || Builder::default().members(["127.0.0.1:7600"]);
        assert_eq!(error(Builder::default()), "no endpoint of a member is given");
        assert_eq!(
            error(one().dns("shop:")),
            r#""shop:" is not an endpoint: the port "" is not a number from 1 to 65535"#
        );
        assert_eq!(error(one().timeout(Duration::ZERO)), "the timeout must be above zero");
        assert!(one().build().is_ok(), "outside a runtime");
        assert_eq!(
            error(one().dns("https://shop")),
            "https://shop:7600: https needs the certificates of a client"
        );
    }
}
