//! HTTP endpoints for probes and Prometheus: `/healthz`, `/readyz`, `/metrics`.
//!
//! Liveness depends only on this process's event loop and readiness only on its own gates, so no
//! outage of another service can restart the process.

use std::net::TcpListener;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Registry, TextEncoder};

use crate::ready::Ready;
use crate::tasks::Tasks;

/// Content type of the Prometheus text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone)]
struct Shared {
    metrics: Registry,
    ready: Ready,
}

/// Serves the admin port on the runtime of `tasks` until they stop, and then closes connections.
///
/// # Errors
/// The runtime refuses the listener, which must be non-blocking.
pub fn serve(
    listener: TcpListener,
    metrics: Registry,
    ready: Ready,
    tasks: &Tasks,
) -> std::io::Result<()> {
    let listener = {
        let _context = tasks.handle().enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let router = router(metrics, ready);
    let stopping = tasks.stopping().clone();
    tasks.spawn_vital("admin", async move {
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(async move { stopping.cancelled().await })
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "admin port failed");
        }
    });
    Ok(())
}

fn router(metrics: Registry, ready: Ready) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .with_state(Shared { metrics, ready })
}

async fn readyz(State(shared): State<Shared>) -> (StatusCode, String) {
    let waiting_for = shared.ready.waiting_for();
    if waiting_for.is_empty() {
        (StatusCode::OK, "ready\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for: {}\n", waiting_for.join(", ")))
    }
}

async fn render(State(shared): State<Shared>) -> impl IntoResponse {
    match TextEncoder::new().encode_to_string(&shared.metrics.gather()) {
        Ok(text) => ([(CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    use prometheus::IntCounter;
    use tokio::runtime::Runtime;

    use super::*;

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("listening");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .expect("sent");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("text");
        response
    }

    #[test]
    fn serves_probes_and_metrics_and_readyz_lists_closed_gates() {
        let runtime = Runtime::new().expect("a runtime");
        let tasks = Tasks::new(runtime.handle().clone());
        let (metrics, ready) = (Registry::new(), Ready::new());
        let counter = IntCounter::new("larder_test_total", "help").expect("valid");
        metrics.register(Box::new(counter.clone())).expect("new");
        counter.inc();
        let gate = ready.gate("ring joined");
        let listener =
            crate::net::listen(SocketAddr::from(([127, 0, 0, 1], 0)), false).expect("loopback");
        let address = listener.local_addr().expect("bound");
        serve(listener, metrics, ready, &tasks).expect("served");

        assert!(get(address, "/healthz").starts_with("HTTP/1.1 200"));
        let waiting = get(address, "/readyz");
        assert!(waiting.starts_with("HTTP/1.1 503"), "{waiting}");
        assert!(waiting.ends_with("waiting for: ring joined\n"), "{waiting}");
        gate.open();
        assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
        assert!(get(address, "/metrics").contains("larder_test_total 1"));
        assert_eq!(runtime.block_on(tasks.stop(Duration::from_secs(5))), Ok(()));
    }
}
