//! The gRPC doors: which services stand behind which port, and what every call has in common.
//!
//! The service of the hot path is called straight from the HTTP/2 connection, without tonic's own
//! server and router between: the same generated code, one layer less on a hit. Everything else
//! goes through tonic's routes. What an answer is, is decided in [`crate::cache`].

pub mod admin;
pub mod cache;
pub mod groupcache;
pub mod peer;
pub mod status;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use larder_proto::FILE_DESCRIPTOR_SET;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::server::{HealthReporter, HealthService};
use tower::Service;

use tonic_health::pb::health_server::HealthServer;

/// Where a caller says how long it waits. Source: gRPC over HTTP/2, "Timeout".
const TIMEOUT_HEADER: &str = "grpc-timeout";

/// What a generated service's call is.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// One port: the service of its hot path, and the rest.
#[derive(Clone)]
pub struct Door<S> {
    hot: S,
    /// `/package.Service/` of the hot service.
    prefix: &'static str,
    rest: Routes,
}

impl<S> Door<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: NamedService + Clone,
{
    /// `prefix` is `/package.Service/` of `hot`.
    #[must_use]
    pub fn new(hot: S, prefix: &'static str, rest: Routes) -> Self {
        assert_eq!(prefix.trim_matches('/'), S::NAME, "the prefix names the hot service");
        Self { hot, prefix, rest }
    }
}

impl<S> hyper::service::Service<Request<Incoming>> for Door<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone,
    // Generated services box their futures already; a second box would be one too many.
    S: Service<Request<Incoming>, Future = Answer>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        // Generated services and routes are always ready: no `poll_ready` is needed.
        if request.uri().path().starts_with(self.prefix) {
            self.hot.clone().call(request)
        } else {
            Box::pin(self.rest.clone().call(request))
        }
    }
}

/// Health and reflection, which stand on every gRPC port.
#[must_use]
pub fn common(health: &HealthReporter) -> Routes {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let health = HealthService::from_health_reporter(health.clone());
    Routes::new(HealthServer::new(health))
        .add_service(reflection().build_v1().expect("our own descriptors are whole"))
        .add_service(reflection().build_v1alpha().expect("our own descriptors are whole"))
}

/// The end of a call: the caller's own limit, or the default.
#[must_use]
pub fn deadline(metadata: &MetadataMap, default: Instant) -> Instant {
    metadata
        .get(TIMEOUT_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(parse_timeout)
        .and_then(|timeout| Instant::now().checked_add(timeout))
        .unwrap_or(default)
}

/// At most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_are_read_in_every_unit_and_nonsense_is_none() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("100000000m", None),
            ("+1S", None),
            ("S", None),
            ("1", None),
            ("1é", None),
            ("", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text:?}");
        }
    }
}
