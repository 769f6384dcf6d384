//! A constant rate of reads: an open loop, so a slow answer delays no other read, and its time
//! counts from when the read was due.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder_client::Client;
use larder_proto::v1::cache_client::CacheClient;
use larder_proto::v1::{Explanation, GetRequest, GetResponse, Source};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::shared::GROUP;

/// Deadline of a stock client's read.
const STOCK_DEADLINE: Duration = Duration::from_secs(1);
/// The default of Larder's own client.
const LARDER_DEADLINE: Duration = Duration::from_secs(10);

/// The client that reads.
#[derive(Clone)]
pub(super) enum Reader {
    /// tonic's generated client, connected to one member.
    Stock(CacheClient<Channel>),
    /// Larder's own, which knows the ring.
    Larder(Client),
}

/// Which keys are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Choice {
    /// One of so many, in a fixed pseudo-random order.
    Among(u32),
    /// Each key once, numbered from here.
    NewFrom(u32),
}

/// One read.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) due: Instant,
    /// From when it was due.
    pub(super) took: Duration,
    /// From when it was sent.
    call: Duration,
    deadline: Duration,
    pub(super) key: u32,
    pub(super) result: Result<Answered, String>,
}

/// What an answer says of itself.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    source: Source,
    /// The key's owner in the ring of the member that answered.
    pub(super) owner: String,
}

/// Reads in progress.
pub(super) struct Load {
    reads: Arc<Mutex<Vec<Read>>>,
    pending: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

/// Reads of one window of time.
pub(super) struct Window(Vec<Read>);

impl Load {
    /// Reads `per_second` keys until it is stopped, with the readers in turn.
    pub(super) fn start(readers: Vec<Reader>, per_second: u32, keys: Choice) -> Self {
        let reads: Arc<Mutex<Vec<Read>>> = Arc::default();
        let pending: Arc<AtomicU32> = Arc::default();
        let (results, outstanding) = (Arc::clone(&reads), Arc::clone(&pending));
        let task = tokio::spawn(async move {
            let begin = Instant::now();
            for n in 0_u32.. {
                let due = begin + Duration::from_secs(1) * n / per_second;
                tokio::time::sleep_until(due.into()).await;
                let reader = readers[n as usize % readers.len()].clone();
                outstanding.fetch_add(1, Ordering::SeqCst);
                let (results, outstanding) = (Arc::clone(&results), Arc::clone(&outstanding));
                tokio::spawn(async move {
                    let key = keys.nth(n);
                    let (deadline, sent) = (reader.deadline(), Instant::now());
                    let result = reader.read(key).await;
                    let (took, call) = (due.elapsed(), sent.elapsed());
                    results.lock().push(Read { due, took, call, deadline, key, result });
                    outstanding.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { reads, pending, task }
    }

    /// Lets reads go on: what is measured is their rate and latency over a time.
    pub(super) async fn run_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Stops, waits for the last answers, and returns every read.
    pub(super) async fn stop(self) -> Window {
        self.task.abort();
        let end = Instant::now() + LARDER_DEADLINE + STOCK_DEADLINE;
        while self.pending.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < end, "a read hangs past its deadline");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Window(std::mem::take(&mut *self.reads.lock()))
    }

    /// The reads that have ended and were due in a window.
    pub(super) fn between(&self, from: Instant, to: Instant) -> Window {
        let reads = self.reads.lock();
        Window(reads.iter().filter(|read| read.due >= from && read.due < to).cloned().collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Choice {
    fn nth(self, n: u32) -> u32 {
        match self {
            // Knuth's multiplicative hash spreads consecutive numbers.
            Self::Among(keys) => (n.wrapping_mul(2_654_435_761) >> 8) % keys,
            Self::NewFrom(first) => first + n,
        }
    }
}

impl Reader {
    fn deadline(&self) -> Duration {
        match self {
            Self::Stock(_) => STOCK_DEADLINE,
            Self::Larder(_) => LARDER_DEADLINE,
        }
    }

    async fn read(&self, key: u32) -> Result<Answered, String> {
        let answered = |explanation: &Explanation| Answered {
            source: explanation.source(),
            owner: explanation.owner.clone(),
        };
        match self {
            Self::Stock(client) => {
                let mut answer = get(client.clone(), key).await;
                if answer.as_ref().is_err_and(was_never_sent) {
                    answer = get(client.clone(), key).await;
                }
                let answer = answer
                    .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
                Ok(answered(&answer.explanation.expect("requested")))
            }
            Self::Larder(client) => {
                let answer = client.explain(GROUP, name(key)).await;
                let answer = answer.map_err(|error| error.to_string())?;
                Ok(answered(answer.explanation().expect("requested")))
            }
        }
    }
}

async fn get(mut client: CacheClient<Channel>, key: u32) -> Result<GetResponse, Status> {
    let mut request =
        Request::new(GetRequest { group: GROUP.into(), key: name(key), explain: true });
    request.set_timeout(STOCK_DEADLINE);
    client.get(request).await.map(tonic::Response::into_inner)
}

/// True if the connection was closing when the request was to be sent. A member closes connections
/// of a certain age. gRPC clients resend such a request by themselves ("transparent retry");
/// tonic's does not.
fn was_never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.downcast_ref().is_some_and(hyper::Error::is_canceled) {
            return true;
        }
        source = error.source();
    }
    false
}

impl Window {
    pub(super) fn between(&self, from: Instant, to: Instant) -> Self {
        let within = |read: &&Read| read.due >= from && read.due < to;
        Self(self.0.iter().filter(within).cloned().collect())
    }

    /// The reads that ended in a window, whenever they were due.
    pub(super) fn ended_between(&self, from: Instant, to: Instant) -> Self {
        let within = |read: &&Read| (from..to).contains(&(read.due + read.took));
        Self(self.0.iter().filter(within).cloned().collect())
    }

    /// The reads of some keys.
    pub(super) fn of(&self, wanted: impl Fn(u32) -> bool) -> Self {
        Self(self.0.iter().filter(|read| wanted(read.key)).cloned().collect())
    }

    pub(super) fn reads(&self) -> &[Read] {
        &self.0
    }

    pub(super) fn failures(&self) -> impl Iterator<Item = &Read> {
        self.0.iter().filter(|read| read.result.is_err())
    }

    pub(super) fn answered(&self) -> Self {
        Self(self.0.iter().filter(|read| read.result.is_ok()).cloned().collect())
    }

    /// Reads that failed with RESOURCE_EXHAUSTED.
    pub(super) fn refused(&self) -> Self {
        let refused = |read: &&Read| {
            read.result.as_ref().is_err_and(|error| error.starts_with("ResourceExhausted"))
        };
        Self(self.0.iter().filter(refused).cloned().collect())
    }

    /// Reads that ended after their deadline.
    pub(super) fn late(&self) -> usize {
        self.0.iter().filter(|read| read.took > read.deadline).count()
    }

    /// Share of the answers that needed no load.
    pub(super) fn hit_ratio(&self) -> f64 {
        let answers = self.0.iter().filter_map(|read| read.result.as_ref().ok());
        let loads = answers.clone().filter(|answered| answered.source == Source::Loaded).count();
        1.0 - ratio(loads, answers.count())
    }

    /// The time within which a share of the reads ended.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        quantile(self.0.iter().map(|read| read.took), share)
    }

    /// The same without the time that this process took to send them, which counts where a
    /// millisecond does.
    pub(super) fn call_quantile(&self, share: f64) -> Duration {
        quantile(self.0.iter().map(|read| read.call), share)
    }

    /// Rate, failures and latencies of each second, for a test that fails. A read that is sent late
    /// means that this process waited for a processor, and so did the members.
    pub(super) fn by_second(&self) -> String {
        let Some(begin) = self.0.iter().map(|read| read.due).min() else { return String::new() };
        let end = self.0.iter().map(|read| read.due).max().expect("not empty");
        let mut lines =
            String::from("second  reads  failed  p50 ms  p99 ms  slowest ms  sent late ms\n");
        for second in 0..=(end - begin).as_secs() {
            let from = begin + Duration::from_secs(second);
            let window = self.between(from, from + Duration::from_secs(1));
            let sent_late = window.0.iter().map(|read| read.took - read.call).max();
            let [p50, p99, slowest] = [0.5, 0.99, 1.0].map(|share| window.quantile(share));
            let times = [p50, p99, slowest, sent_late.unwrap_or_default()];
            let [p50, p99, slowest, sent_late] = times.map(|time| time.as_secs_f64() * 1e3);
            let (reads, failed) = (window.0.len(), window.failures().count());
            lines += &format!(
                "{second:6} {reads:6} {failed:7} {p50:7.1} {p99:7.1} {slowest:11.1} \
                 {sent_late:13.1}\n"
            );
        }
        lines
    }
}

pub(super) fn name(key: u32) -> Bytes {
    format!("key-{key}").into()
}

fn quantile(times: impl Iterator<Item = Duration>, share: f64) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share")]
    #[expect(clippy::cast_precision_loss, reason = "a count of reads")]
    let index = (times.len() as f64 * share) as usize;
    times.get(index).or(times.last()).copied().unwrap_or_default()
}

/// `part` of `whole`, which may be zero.
#[expect(clippy::cast_precision_loss, reason = "counts of reads")]
fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
