//! An HTTP origin on an address that every pod reaches. It counts its own calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::routing::get;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::keys::is_new;
use super::runtime;

/// Time of one call: that of an indexed row in a database.
const CALL_TIME: Duration = Duration::from_millis(5);

/// A running origin. It ends when dropped.
#[derive(Debug)]
pub struct Origin {
    _runtime: Runtime,
    address: SocketAddr,
    calls: Calls,
}

type Calls = Arc<Mutex<Vec<Call>>>;

/// One call that arrived.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// When it arrived.
    pub at: Instant,
    /// Whether its key is outside the working set.
    pub is_new: bool,
}

impl Origin {
    /// Starts an origin on a free port of `host`.
    ///
    /// # Panics
    /// When there is no free port.
    #[must_use]
    pub fn start(host: &str) -> Self {
        let runtime = runtime();
        let calls = Calls::default();
        let listener = runtime.block_on(TcpListener::bind((host, 0))).expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let router =
            axum::Router::new().route("/{key}", get(answer)).with_state(Arc::clone(&calls));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Self { _runtime: runtime, address, calls }
    }

    /// The URL of a key's value, with `{key}` in its place.
    #[must_use]
    pub fn url_template(&self) -> String {
        format!("http://{}/{{key}}", self.address)
    }

    /// All calls so far, in the order of their arrival.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }
}

async fn answer(State(calls): State<Calls>, Path(key): Path<String>) -> String {
    calls.lock().push(Call { at: Instant::now(), is_new: is_new(&key) });
    tokio::time::sleep(CALL_TIME).await;
    format!("value of {key}")
}
