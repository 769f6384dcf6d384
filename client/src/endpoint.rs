//! Pure: reads the endpoints at which a client starts.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use larder_proto::names::GRPC_PORT;

/// A member's gRPC endpoint, or a name that resolves to several of them.
///
/// Reads `host:port`, `host` (with the port 7600), `http://host:port` and `https://host:port`; the
/// host is a name, an IPv4 address or an IPv6 address, which needs brackets before a port. Without a
/// scheme the client's settings decide whether it is called over TLS.
///
/// ```
/// use larder_client::Endpoint;
///
/// let endpoint: Endpoint = "http://shop-members.prod.svc".parse()?;
/// assert_eq!(endpoint.to_string(), "http://shop-members.prod.svc:7600");
/// assert_eq!(endpoint.address(), "shop-members.prod.svc:7600");
/// # Ok::<(), larder_client::EndpointError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub(crate) target: Target,
    pub(crate) scheme: Option<Scheme>,
}

/// How an endpoint is to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// What an endpoint refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Address(SocketAddr),
    Name { host: String, port: u16 },
}

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an endpoint: {problem}")]
pub struct EndpointError {
    text: String,
    problem: String,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|problem| EndpointError { text: text.to_owned(), problem })
    }
}

impl Endpoint {
    /// `host:port`, also where the text had no port.
    #[must_use]
    pub fn address(&self) -> String {
        match &self.target {
            Target::Address(address) => address.to_string(),
            Target::Name { host, port } => format!("{host}:{port}"),
        }
    }

    /// True if the text began with `https://`.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.scheme == Some(Scheme::Https)
    }

    /// True for an address of this machine's loopback interface, and for `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.target {
            Target::Address(address) => address.ip().is_loopback(),
            Target::Name { host, .. } => host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// True if the text began with `http://`.
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.scheme == Some(Scheme::Http)
    }
}

impl fmt::Display for Endpoint {
    /// Writes `host:port`, after the scheme if the text had one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scheme {
            None => {}
            Some(Scheme::Http) => f.write_str("http://")?,
            Some(Scheme::Https) => f.write_str("https://")?,
        }
        f.write_str(&self.address())
    }
}

fn parse(text: &str) -> Result<Endpoint, String> {
    let (scheme, authority) = split_scheme(text)?;
    Ok(Endpoint { target: parse_target(authority)?, scheme })
}

fn parse_target(authority: &str) -> Result<Target, String> {
    if let Ok(address) = authority.parse::<SocketAddr>() {
        read_port(&address.port().to_string())?;
        return Ok(Target::Address(address));
    }
    let unbracketed = authority.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(ip) = unbracketed.unwrap_or(authority).parse::<IpAddr>() {
        return Ok(Target::Address((ip, GRPC_PORT).into()));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, read_port(port)?),
        None => (authority, GRPC_PORT),
    };
    if host.is_empty() {
        return Err(format!("the host is missing, as in 127.0.0.1:{GRPC_PORT}"));
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match host.chars().find(|c| !valid(*c)) {
        Some(':') => Err(format!("an IPv6 address needs brackets, as in [::1]:{GRPC_PORT}")),
        Some(c) => Err(format!("a host name does not contain {c:?}")),
        None => Ok(Target::Name { host: host.into(), port }),
    }
}

/// Splits off the scheme, and the slash that ends a URL without a path.
fn split_scheme(text: &str) -> Result<(Option<Scheme>, &str), String> {
    let Some((name, rest)) = text.split_once("://") else { return Ok((None, text)) };
    let scheme = match name.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(format!("the scheme {name:?} is unknown: use http://, https:// or none")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    match authority.split_once('/') {
        Some((authority, _)) => Err(format!("a path is not allowed: use {name}://{authority}")),
        None => Ok((Some(scheme), authority)),
    }
}

fn read_port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("the port {text:?} is not a number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_and_port_are_optional() {
        for (text, read) in [
            ("127.0.0.1:7610", "127.0.0.1:7610"),
            ("127.0.0.1", "127.0.0.1:7600"),
            ("[::1]:7610", "[::1]:7610"),
            ("[::1]", "[::1]:7600"),
            ("::1", "[::1]:7600"),
            ("shop-members.prod:7610", "shop-members.prod:7610"),
            ("shop_members", "shop_members:7600"),
            ("http://127.0.0.1:7610", "http://127.0.0.1:7610"),
            ("HTTP://shop/", "http://shop:7600"),
            ("https://shop", "https://shop:7600"),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!(endpoint.to_string(), read);
            assert_eq!(read.parse(), Ok(endpoint), "the written form reads back");
        }
    }

    #[test]
    fn only_names_are_resolved() {
        let target = |text: &str| text.parse::<Endpoint>().expect(text).target;
        assert!(matches!(target("http://10.0.0.1"), Target::Address(_)));
        let name = Target::Name { host: "shop".into(), port: 7600 };
        assert_eq!(target("shop"), name);
    }

    #[test]
    fn an_error_names_the_text_and_the_part_that_is_wrong() {
        for (text, problem) in [
            ("", "the host is missing, as in 127.0.0.1:7600"),
            (":7600", "the host is missing, as in 127.0.0.1:7600"),
            ("shop:", "the port \"\" is not a number from 1 to 65535"),
            ("shop:0", "the port \"0\" is not a number from 1 to 65535"),
            ("127.0.0.1:0", "the port \"0\" is not a number from 1 to 65535"),
            ("127.0.0.1:70000", "the port \"70000\" is not a number from 1 to 65535"),
            ("a b:1", "a host name does not contain ' '"),
            ("fe80::zz:1", "an IPv6 address needs brackets, as in [::1]:7600"),
            ("shop/students", "a host name does not contain '/'"),
            ("dns://shop", "the scheme \"dns\" is unknown: use http://, https:// or none"),
            ("http://shop:7600/v1/x", "a path is not allowed: use http://shop:7600"),
        ] {
            let error = text.parse::<Endpoint>().expect_err(text).to_string();
            assert_eq!(error, format!("{text:?} is not an endpoint: {problem}"));
        }
    }
}
