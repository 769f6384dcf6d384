//! A port on loopback serves this machine only. A web page that a browser of this machine shows can
//! make its own name resolve to loopback (DNS rebinding), but not the `Host` of its requests.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::Router;
use axum::extract::Request;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

const REFUSAL: &str = "this port serves requests to localhost, 127.0.0.1 or [::1] only\n";

/// Refuses requests whose host is not this machine.
pub(crate) fn serve_local_only(routes: Router) -> Router {
    routes.layer(from_fn(check))
}

async fn check(request: Request, next: Next) -> Response {
    let is_local = match request.uri().authority() {
        Some(authority) => is_local(authority),
        None => host(request.headers()).is_some_and(|authority| is_local(&authority)),
    };
    if is_local {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, REFUSAL).into_response()
    }
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    headers.get(HOST)?.to_str().ok()?.parse().ok()
}

fn is_local(authority: &Authority) -> bool {
    let host = authority.host();
    let unbracketed = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || unbracketed.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for (host, expected) in [
            ("localhost:7680", true),
            ("LOCALHOST", true),
            ("127.0.0.1:7680", true),
            ("127.9.9.9", true),
            ("[::1]:7680", true),
            ("attacker.example:7680", false),
            ("127.0.0.1.attacker.example", false),
            ("localhost.attacker.example", false),
            ("10.0.0.1", false),
            ("[fd00::1]:7680", false),
        ] {
            assert_eq!(is_local(&host.parse().expect(host)), expected, "{host}");
        }
    }
}
