//! Which addresses an `http` origin may connect to.
//!
//! The author of a CacheGroup chooses the URL, and a member connects to it. Without a limit, the
//! author reaches what only the member reaches: its own ports, the metadata service of the cloud,
//! the API server. A name is judged by the addresses that it resolves to, at each connect, so that
//! a name which changes its address between the check and the use gains nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The addresses that origins may connect to.
///
/// Loopback, link-local, multicast and unspecified addresses and the API server are forbidden,
/// unless the cluster allows them.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    allowed: Arc<[IpNet]>,
    api_server: Option<IpAddr>,
}

/// An address that origins may not connect to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{address} is {kind}, to which no origin may connect unless the CacheCluster's \
     spec.origins.allowedTargets contains it"
)]
pub struct Forbidden {
    address: IpAddr,
    kind: &'static str,
}

impl Targets {
    /// `allowed` lists networks that would be forbidden otherwise; `api_server` is the address of
    /// the Kubernetes API, if the process runs in a pod.
    #[must_use]
    pub fn new(allowed: impl Into<Arc<[IpNet]>>, api_server: Option<IpAddr>) -> Self {
        Self { allowed: allowed.into(), api_server }
    }

    /// Judges one address.
    ///
    /// # Errors
    /// No origin may connect to it.
    pub fn check(&self, address: IpAddr) -> Result<(), Forbidden> {
        // An IPv4 address in IPv6 form reaches the same host.
        let address = address.to_canonical();
        match self.forbidden_kind(address) {
            Some(kind) if !self.allowed.iter().any(|network| network.contains(&address)) => {
                Err(Forbidden { address, kind })
            }
            _ => Ok(()),
        }
    }

    fn forbidden_kind(&self, address: IpAddr) -> Option<&'static str> {
        let is_link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        Some(if self.api_server == Some(address) {
            "the Kubernetes API server"
        } else if address.is_loopback() {
            "a loopback address"
        } else if is_link_local {
            "a link-local address"
        } else if address.is_unspecified() {
            "the unspecified address"
        } else if address.is_multicast() || is_broadcast {
            "a multicast address"
        } else {
            return None;
        })
    }

    /// The addresses of `host` that origins may connect to.
    async fn resolve(&self, host: &str) -> io::Result<Vec<SocketAddr>> {
        let mut forbidden = None;
        let mut addresses = Vec::new();
        for address in tokio::net::lookup_host((host, 0)).await? {
            match self.check(address.ip()) {
                Ok(()) => addresses.push(address),
                Err(error) => forbidden = Some(error),
            }
        }
        match forbidden {
            Some(error) if addresses.is_empty() => Err(io::Error::other(error)),
            _ => Ok(addresses),
        }
    }
}

impl Resolve for Targets {
    fn resolve(&self, name: Name) -> Resolving {
        let targets = self.clone();
        Box::pin(async move {
            let addresses = targets.resolve(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(allowed: &[&str]) -> Targets {
        let networks: Vec<IpNet> = allowed.iter().map(|n| n.parse().expect(n)).collect();
        Targets::new(networks, Some("10.96.0.1".parse().expect("an address")))
    }

    fn refusal(targets: &Targets, address: &str) -> Option<String> {
        targets.check(address.parse().expect(address)).err().map(|error| error.to_string())
    }

    #[test]
    fn an_origin_reaches_neither_its_member_nor_the_metadata_service_nor_the_api_server() {
        for (address, kind) in [
            ("127.0.0.1", "loopback"),
            ("127.9.9.9", "loopback"),
            ("::1", "loopback"),
            ("::ffff:127.0.0.1", "loopback"),
            ("169.254.169.254", "link-local"),
            ("::ffff:169.254.169.254", "link-local"),
            ("fe80::1", "link-local"),
            ("0.0.0.0", "unspecified"),
            ("::", "unspecified"),
            ("224.0.0.1", "multicast"),
            ("255.255.255.255", "multicast"),
            ("10.96.0.1", "API server"),
        ] {
            let text = refusal(&targets(&[]), address).expect(address);
            assert!(text.contains(kind) && text.contains("allowedTargets"), "{address}: {text}");
        }
        for address in ["10.0.0.7", "192.168.1.1", "2001:db8::1", "93.184.216.34"] {
            assert_eq!(refusal(&targets(&[]), address), None);
        }
    }

    #[test]
    fn a_cluster_allows_a_network_and_no_more_than_that() {
        let targets = targets(&["127.0.0.0/8", "10.96.0.1/32"]);
        assert_eq!(refusal(&targets, "127.0.0.1"), None);
        assert_eq!(refusal(&targets, "::ffff:127.0.0.1"), None);
        assert_eq!(refusal(&targets, "10.96.0.1"), None);
        assert!(refusal(&targets, "::1").is_some());
        assert!(refusal(&targets, "169.254.169.254").is_some());
    }

    #[tokio::test]
    async fn a_name_is_judged_by_its_addresses() {
        let error = targets(&[]).resolve("localhost").await.expect_err("only loopback");
        assert!(error.to_string().contains("is a loopback address"), "{error}");
        let allowed = targets(&["127.0.0.0/8"]).resolve("localhost").await.expect("allowed");
        assert!(allowed.iter().all(|address| address.ip().is_loopback()), "{allowed:?}");
    }
}
