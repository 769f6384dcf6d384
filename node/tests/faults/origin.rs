//! An HTTP origin that counts its loads, and that a test can slow down or break.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;

#[derive(Default)]
pub(super) struct Behaviour {
    loads: AtomicUsize,
    pub(super) delay_ms: AtomicU64,
    /// Answers 503.
    pub(super) fails: AtomicBool,
}

pub(super) struct Origin {
    address: SocketAddr,
    behaviour: Arc<Behaviour>,
}

impl Origin {
    pub(super) async fn start() -> Self {
        let behaviour = Arc::new(Behaviour::default());
        let router =
            axum::Router::new().route("/{key}", get(load)).with_state(Arc::clone(&behaviour));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, behaviour }
    }

    pub(super) fn url_template(&self) -> String {
        format!("http://{}/{{key}}", self.address)
    }

    pub(super) fn loads(&self) -> usize {
        self.behaviour.loads.load(Ordering::SeqCst)
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).expect("short");
        self.behaviour.delay_ms.store(ms, Ordering::SeqCst);
    }

    pub(super) fn set_failing(&self, fails: bool) {
        self.behaviour.fails.store(fails, Ordering::SeqCst);
    }
}

async fn load(
    State(origin): State<Arc<Behaviour>>,
    Path(key): Path<String>,
) -> (StatusCode, String) {
    origin.loads.fetch_add(1, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(origin.delay_ms.load(Ordering::SeqCst))).await;
    if origin.fails.load(Ordering::SeqCst) {
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    }
    (StatusCode::OK, format!("value of {key}"))
}
