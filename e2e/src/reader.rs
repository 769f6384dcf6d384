//! Steady reads in the background while something happens to the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use larder_client::Client;

use crate::poll;

/// Reads in flight at most. An unlimited reader on overloaded cores would queue reads until they
/// time out, which says nothing about the product.
const MOST_IN_FLIGHT: usize = 32;

/// A thread that reads keys at a fixed rate until it is stopped.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<Report>,
}

/// Results of the reads.
#[derive(Debug, Default)]
struct Report {
    /// Reads that ended, including failed ones.
    reads: u64,
    /// Failed reads, with the time since the start.
    failures: Vec<(Duration, String)>,
    slowest: Duration,
    /// Time from the first read to the last.
    duration: Duration,
}

impl Reader {
    /// Reads `student1` to `student<keys>` of the group `students` in turn, `per_second` a second
    /// while the members keep up, each with its own deadline. `members` are `host:port`.
    ///
    /// # Panics
    /// In its thread, when the client cannot be built.
    #[must_use]
    pub fn start(members: Vec<String>, keys: u64, per_second: u32, deadline: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be built");
            runtime.block_on(read(members, keys, per_second, deadline, &stopped, &counted))
        });
        Self { stop, done, thread }
    }

    /// Number of reads that have ended.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Waits until `count` reads have ended.
    ///
    /// # Panics
    /// When that takes longer than 30 seconds.
    pub fn wait_for(&self, count: u64) {
        poll::until("reads", Duration::from_secs(30), || match self.reads() {
            reads if reads >= count => Ok(()),
            reads => Err(format!("{reads} of {count} reads")),
        });
    }

    /// Stops reading and prints what happened meanwhile.
    ///
    /// # Panics
    /// When a read failed.
    pub fn expect_no_failures(self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let report = self.thread.join().expect("the reader did not panic");
        let reads = f64::from(u32::try_from(report.reads).expect("fewer reads than 2^32"));
        println!(
            "{what}; {} reads at {:.0}/s, {} failed, slowest {:.0} ms",
            report.reads,
            reads / report.duration.as_secs_f64(),
            report.failures.len(),
            report.slowest.as_secs_f64() * 1e3
        );
        // The first of each kind: many equal failures would hide the others.
        let mut kinds = BTreeMap::new();
        for (at, error) in &report.failures {
            let kind = error.split_once(": ").map_or(error.as_str(), |(_, error)| error);
            kinds.entry(kind).or_insert((0, at)).0 += 1;
        }
        assert!(report.failures.is_empty(), "{kinds:#?}");
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
    let begin = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
    let mut running = tokio::task::JoinSet::new();
    let mut report = Report::default();
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        tokio::select! {
            _ = pace.tick(), if running.len() < MOST_IN_FLIGHT => {
                next = next % keys + 1;
                let (client, key) = (client.clone(), format!("student{next}"));
                running.spawn(async move {
                    let asked = Instant::now();
                    let answer = client.get("students", key.as_bytes()).await;
                    (answer.map(drop).map_err(|e| format!("{key}: {e:?}")), asked.elapsed())
                });
            }
            Some(ended) = running.join_next() => count(&mut report, ended, begin, done),
        }
    }
    while let Some(ended) = running.join_next().await {
        count(&mut report, ended, begin, done);
    }
    report.duration = begin.elapsed();
    report
}

fn count(
    report: &mut Report,
    ended: Result<(Result<(), String>, Duration), tokio::task::JoinError>,
    begin: Instant,
    done: &AtomicU64,
) {
    let (answer, took) = ended.expect("a read does not panic");
    report.reads += 1;
    done.fetch_add(1, Ordering::Relaxed);
    report.slowest = report.slowest.max(took);
    if let Err(error) = answer {
        report.failures.push((begin.elapsed(), error));
    }
}
