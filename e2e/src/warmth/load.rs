//! Reads at a constant rate with the Rust client: an open loop, so that a slow answer delays no
//! other read and its time counts from when the read was due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use larder_client::{Client, Explanation, Source};
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::keys::{Sequence, Shape, is_new, working};
use super::origin::Origin;
use super::runtime;
use crate::poll;

/// Deadline of a read: half of the client's default, so that its second round of tries cannot hide
/// a member that does not answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Reads in flight at most, the client's own default. A read beyond it counts as failed.
const MOST_IN_FLIGHT: usize = 1024;
/// A load ends by itself after this time, in case its test hangs.
const LONGEST: Duration = Duration::from_secs(900);
/// Passes over the working set after which it has to be cached.
const MOST_PASSES: u32 = 5;
/// Keys of one batch while the cache is filled: few enough for the members' queues of loads.
const BATCH: usize = 500;

/// Reads in progress.
#[derive(Debug)]
pub struct Load {
    runtime: Runtime,
    task: JoinHandle<()>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    in_flight: AtomicUsize,
    reads: Mutex<Vec<Read>>,
}

/// One read that has ended.
#[derive(Debug, Clone)]
pub struct Read {
    /// When it was due.
    pub due: Instant,
    /// Time from then to its end.
    pub took: Duration,
    /// Whether its key is outside the working set.
    pub is_new: bool,
    /// Its end.
    pub end: End,
}

/// How a read ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The cache had the value.
    Hit,
    /// The value was loaded from the origin for this read or for one that it joined.
    Loaded,
    /// The error.
    Failed(String),
}

impl Load {
    /// Reads the working set until a whole pass causes no call at `origin`, then reads the sequence
    /// of keys until it is stopped. `endpoint` is a `host:port` of members or of their Service.
    ///
    /// # Panics
    /// When the working set cannot be cached.
    #[must_use]
    pub fn start(endpoint: &str, group: &str, shape: Shape, origin: &Origin) -> Self {
        let runtime = runtime();
        let client = Client::builder().members([endpoint]).timeout(DEADLINE);
        let client = client.build().expect("a valid endpoint");
        runtime.block_on(fill(&client, group, shape.keys, origin));
        let shared = Arc::new(Shared::default());
        let reading = read(client, group.into(), shape, Arc::clone(&shared));
        let task = runtime.spawn(reading);
        Self { runtime, task, shared }
    }

    /// Reads for some time.
    ///
    /// # Panics
    /// When the load has ended by itself.
    pub fn run_for(&self, time: Duration) {
        poll::always("the load reads", time, || {
            if self.task.is_finished() { Err("it has ended".into()) } else { Ok(()) }
        });
    }

    /// The reads that have ended.
    #[must_use]
    pub fn reads(&self) -> Vec<Read> {
        self.shared.reads.lock().clone()
    }

    /// Stops, waits for the last answers, and returns every read.
    ///
    /// # Panics
    /// When a read hangs past its deadline.
    #[must_use]
    pub fn stop(self) -> Vec<Read> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.runtime.block_on(self.task).expect("the load does not panic");
        poll::until("the last reads end", 2 * DEADLINE, || {
            match self.shared.in_flight.load(Ordering::Acquire) {
                0 => Ok(()),
                reads => Err(format!("{reads} reads are in flight")),
            }
        });
        std::mem::take(&mut self.shared.reads.lock())
    }
}

async fn fill(client: &Client, group: &str, keys: u32, origin: &Origin) {
    let keys: Vec<String> = (1..=keys).map(working).collect();
    let mut loaded = keys.len();
    for _ in 0..MOST_PASSES {
        let before = origin.calls().len();
        let mut failed = 0;
        for batch in keys.chunks(BATCH) {
            let answers = client.get_many(group, batch.iter().map(String::as_bytes)).await;
            failed += answers.iter().filter(|answer| answer.is_err()).count();
        }
        loaded = origin.calls().len() - before;
        if loaded == 0 && failed == 0 {
            return;
        }
    }
    panic!("{loaded} of {} keys are not cached after {MOST_PASSES} passes", keys.len());
}

async fn read(client: Client, group: Arc<str>, shape: Shape, shared: Arc<Shared>) {
    let begin = Instant::now();
    for (n, key) in (0_u32..).zip(Sequence::new(shape)) {
        let due = begin + Duration::from_secs(1) * n / shape.per_second();
        tokio::time::sleep_until(due.into()).await;
        if shared.stop.load(Ordering::Relaxed) || begin.elapsed() > LONGEST {
            break;
        }
        let is_new = is_new(&key);
        if shared.in_flight.load(Ordering::Acquire) >= MOST_IN_FLIGHT {
            let end = End::Failed(format!("not sent: {MOST_IN_FLIGHT} reads are in flight"));
            shared.reads.lock().push(Read { due, took: due.elapsed(), is_new, end });
            continue;
        }
        shared.in_flight.fetch_add(1, Ordering::AcqRel);
        let (client, group, shared) = (client.clone(), Arc::clone(&group), Arc::clone(&shared));
        tokio::spawn(async move {
            let end = get(&client, &group, &key).await;
            shared.reads.lock().push(Read { due, took: due.elapsed(), is_new, end });
            shared.in_flight.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

async fn get(client: &Client, group: &str, key: &str) -> End {
    match client.explain(group, key.as_bytes()).await {
        Ok(answer) => match answer.explanation().map(Explanation::source) {
            Some(Source::Local | Source::Owner | Source::Hot) => End::Hit,
            Some(Source::Loaded) => End::Loaded,
            other => End::Failed(format!("an answer from {other:?}")),
        },
        Err(error) => End::Failed(error.to_string()),
    }
}
