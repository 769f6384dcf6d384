//! Polls the admin port of one member: its probes, and the metrics of ring and registry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// Time between two scrapes.
const SCRAPE_INTERVAL: Duration = Duration::from_millis(40);
/// The same during minutes of an outage, in which nothing is to change.
const SLOW_SCRAPE_INTERVAL: Duration = Duration::from_millis(500);
/// Scrapes for each check of the probes.
const SCRAPES_PER_PROBE: u32 = 3;
/// Timeout of the probes of a pod, as the operator sets it.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What one scrape showed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// When the scrape began: what it shows is not older.
    pub(super) at: Instant,
    pub(super) connected: bool,
    pub(super) ring_members: usize,
    /// The ring is kept against the registry: by the shrink guard, or for the grace time.
    pub(super) held: bool,
    pub(super) resident_bytes: f64,
}

/// Results of the probes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Probes {
    pub(super) checks: u32,
    pub(super) liveness_failures: u32,
    pub(super) readiness_failures: u32,
}

#[derive(Default)]
struct Seen {
    samples: Mutex<Vec<Sample>>,
    probes: Mutex<Probes>,
    /// The process is stopped or killed on purpose.
    paused: AtomicBool,
    slow: AtomicBool,
}

pub(super) struct Watch {
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

impl Watch {
    /// Watches a member that is ready.
    pub(super) fn start(admin: SocketAddr) -> Self {
        let seen = Arc::new(Seen::default());
        let task = tokio::spawn(poll(admin, Arc::clone(&seen)));
        Self { seen, task }
    }

    /// Called before the process is stopped: a check that fails from now on does not count.
    pub(super) fn pause(&self) {
        self.seen.paused.store(true, Ordering::SeqCst);
    }

    pub(super) fn resume(&self) {
        self.seen.paused.store(false, Ordering::SeqCst);
    }

    pub(super) fn set_slow(&self, slow: bool) {
        self.seen.slow.store(slow, Ordering::SeqCst);
    }

    pub(super) fn samples_since(&self, since: Instant) -> Vec<Sample> {
        let samples = self.seen.samples.lock();
        samples.iter().filter(|sample| sample.at >= since).copied().collect()
    }

    pub(super) fn last(&self) -> Option<Sample> {
        self.seen.samples.lock().last().copied()
    }

    pub(super) fn probes(&self) -> Probes {
        *self.seen.probes.lock()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn poll(admin: SocketAddr, seen: Arc<Seen>) {
    for round in 0_u32.. {
        let slow = seen.slow.load(Ordering::SeqCst);
        tokio::time::sleep(if slow { SLOW_SCRAPE_INTERVAL } else { SCRAPE_INTERVAL }).await;
        if seen.paused.load(Ordering::SeqCst) {
            continue;
        }
        if round.is_multiple_of(SCRAPES_PER_PROBE) {
            let live = status(admin, "/healthz").await == Some(200);
            let ready = status(admin, "/readyz").await == Some(200);
            if !seen.paused.load(Ordering::SeqCst) {
                let mut probes = seen.probes.lock();
                probes.checks += 1;
                probes.liveness_failures += u32::from(!live);
                probes.readiness_failures += u32::from(!ready);
            }
        }
        let at = Instant::now();
        if let Some((_, text)) = http_get(admin, "/metrics").await {
            seen.samples.lock().push(sample(at, &text));
        }
    }
}

fn sample(at: Instant, metrics: &str) -> Sample {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few members")]
    let ring_members = sum(metrics, "larder_ring_members ") as usize;
    Sample {
        at,
        connected: sum(metrics, "larder_registry_connected ") > 0.0,
        ring_members,
        held: sum(metrics, "larder_ring_held_info{") > 0.0,
        resident_bytes: sum(metrics, "process_resident_memory_bytes "),
    }
}

/// Sum of the series that begin with `prefix`.
fn sum(metrics: &str, prefix: &str) -> f64 {
    let lines = metrics.lines().filter(|line| line.starts_with(prefix));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Sum of the series that begin with `prefix` now; `None` without an answer.
pub(super) async fn metric(admin: SocketAddr, prefix: &str) -> Option<f64> {
    http_get(admin, "/metrics").await.map(|(_, text)| sum(&text, prefix))
}

/// The status of one GET; `None` without an answer in time.
pub(super) async fn status(address: SocketAddr, path: &str) -> Option<u16> {
    http_get(address, path).await.map(|(status, _)| status)
}

async fn http_get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    tokio::time::timeout(TIMEOUT, request(address, path)).await.ok()?
}

async fn request(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path).header("host", "test").body(Empty::<Bytes>::new());
    let response = sender.send_request(request.expect("a path")).await.ok()?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.ok()?.to_bytes();
    connection.abort();
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}
