//! Steady reads in the background while something happens to the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_client::Client;

/// A thread that reads keys at a fixed rate until it is asked for its report.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<Report>,
}

/// What the reads saw.
#[derive(Debug, Default)]
pub struct Report {
    /// Reads that ended, well or not.
    pub reads: u64,
    /// The failed ones, with the time since the start at which they failed.
    pub failures: Vec<(Duration, String)>,
    /// The slowest read.
    pub slowest: Duration,
}

impl Reader {
    /// Reads `student1`, `student2`, ... `student<keys>` of the group `students` around and around, `per_second` a
    /// second, each with its own deadline. `members` are `host:port`.
    ///
    /// # Panics
    /// In its thread, when the client cannot be made.
    #[must_use]
    pub fn start(members: Vec<String>, keys: u64, per_second: u32, deadline: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be made");
            runtime.block_on(read(members, keys, per_second, deadline, &stopped, &counted))
        });
        Self { stop, done, thread }
    }

    /// Reads that ended so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Stops reading and tells what was seen.
    ///
    /// # Panics
    /// When the reading thread panicked.
    #[must_use]
    pub fn finish(self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader did not panic")
    }
}

async fn read(
    members: Vec<String>,
    keys: u64,
    per_second: u32,
    deadline: Duration,
    stop: &AtomicBool,
    done: &AtomicU64,
) -> Report {
    let client =
        Client::builder().members(members).timeout(deadline).build().expect("valid members");
    let begun = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut running = tokio::task::JoinSet::new();
    let mut report = Report::default();
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        tokio::select! {
            _ = pace.tick() => {
                next = next % keys + 1;
                let (client, key) = (client.clone(), format!("student{next}"));
                running.spawn(async move {
                    let asked = Instant::now();
                    let answer = client.get("students", key.as_bytes()).await;
                    (answer.map(drop).map_err(|e| format!("{key}: {e:?}")), asked.elapsed())
                });
            }
            Some(ended) = running.join_next() => note(&mut report, ended, begun, done),
        }
    }
    while let Some(ended) = running.join_next().await {
        note(&mut report, ended, begun, done);
    }
    report
}

fn note(
    report: &mut Report,
    ended: Result<(Result<(), String>, Duration), tokio::task::JoinError>,
    begun: Instant,
    done: &AtomicU64,
) {
    let (answer, took) = ended.expect("a read does not panic");
    report.reads += 1;
    done.fetch_add(1, Ordering::Relaxed);
    report.slowest = report.slowest.max(took);
    if let Err(error) = answer {
        report.failures.push((begun.elapsed(), error));
    }
}
