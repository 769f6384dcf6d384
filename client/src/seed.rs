//! Pure: the places from which a client starts.

use std::net::SocketAddr;

/// A place to start from: an address, or a name that stands for many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seed {
    Address(SocketAddr),
    Name { host: String, port: u16 },
}

impl Seed {
    /// Reads `host:port`; the host may be a name, an IPv4 or a bracketed IPv6 address.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let (host, port) = text.rsplit_once(':')?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() || !host.chars().all(plain) {
            return None;
        }
        Some(Self::Name { host: host.into(), port: port.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_addresses_or_names_with_a_port() {
        let address = |text: &str| Seed::Address(text.parse().expect("valid"));
        assert_eq!(Seed::parse("127.0.0.1:7600"), Some(address("127.0.0.1:7600")));
        assert_eq!(Seed::parse("[::1]:7600"), Some(address("[::1]:7600")));
        assert_eq!(
            Seed::parse("shop-members.prod:7600"),
            Some(Seed::Name { host: "shop-members.prod".into(), port: 7600 })
        );
        for wrong in ["shop", "shop:", ":7600", "shop:70000", "http://shop:7600", "a b:1", ""] {
            assert_eq!(Seed::parse(wrong), None, "{wrong}");
        }
    }
}
