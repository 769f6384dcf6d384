//! The load itself: workers that take turns until the time or the requests are used up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder_proto::v1::cache_client::CacheClient;
use larder_proto::v1::{GetManyRequest, GetRequest};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until, timeout};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::keys::Keys;
use super::measure::{Answers, Measure};

/// Most bytes in one answer, as of the Rust client.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// One load, shared by its workers.
pub(super) struct Load {
    pub(super) group: String,
    /// Keys of a request; 1 is a `Get`, more a `GetMany`.
    pub(super) batch: usize,
    /// Requests a second; nothing: each worker sends the next one as soon as it has an answer.
    pub(super) rate: Option<f64>,
    /// Requests at most.
    pub(super) requests: Option<u64>,
    /// No request begins later.
    pub(super) end: Option<Instant>,
    pub(super) start: Instant,
    /// Limit of one request.
    pub(super) timeout: Duration,
    /// Requests begun.
    pub(super) begun: AtomicU64,
    pub(super) measure: Mutex<Measure>,
}

impl Load {
    /// Sends requests until the load is over.
    ///
    /// # Cancel safety
    /// What was measured stays; the request in flight is not counted.
    pub(super) async fn work(&self, channel: Channel, mut keys: Keys) {
        let mut client = CacheClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        while let Some(begin) = self.turn().await {
            let batch = (0..self.batch).map(|_| keys.draw()).collect();
            let answers = self.ask(&mut client, batch).await;
            self.measure().record(begin.elapsed(), &answers);
            // A call on a lost connection fails at once: without a yield the task could not be aborted.
            tokio::task::consume_budget().await;
        }
    }

    /// What was measured so far.
    pub(super) fn measure(&self) -> MutexGuard<'_, Measure> {
        self.measure.lock()
    }

    /// How much of the load is done, in thousandths: of its time or of its requests, whichever is
    /// further.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a position of a bar"
    )]
    pub(super) fn permille(&self, done: u64) -> u64 {
        let of_requests = self.requests.map_or(0.0, |most| done as f64 / most as f64);
        let of_time = self.end.map_or(0.0, |end| {
            self.start.elapsed().as_secs_f64() / (end - self.start).as_secs_f64()
        });
        (of_requests.max(of_time).min(1.0) * 1_000.0) as u64
    }

    /// Waits for the next request's turn; returns the moment from which its latency counts.
    ///
    /// At a given rate that is the moment at which the request was due, so that requests delayed
    /// by slow answers count the delay ("coordinated omission"). A worker that was early counts
    /// from when it sends: the timer's own lateness is not the cluster's.
    async fn turn(&self) -> Option<Instant> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        if self.requests.is_some_and(|most| number >= most) {
            return None;
        }
        let now = Instant::now();
        let due = match self.rate {
            #[allow(clippy::cast_precision_loss, reason = "far below 2^53 requests")]
            Some(rate) => self.start + Duration::from_secs_f64(number as f64 / rate),
            None => now,
        };
        if self.end.is_some_and(|end| due >= end || now >= end) {
            return None;
        }
        if due <= now {
            return Some(due);
        }
        sleep_until(due).await;
        Some(Instant::now())
    }

    async fn ask(&self, client: &mut CacheClient<Channel>, mut keys: Vec<Bytes>) -> Answers {
        let count = keys.len() as u64;
        let group = self.group.clone();
        let asked = async {
            if keys.len() == 1 {
                let key = keys.swap_remove(0);
                let request = self.timed(GetRequest { group, key, explain: true });
                client.get(request).await.map(|answer| Answers::One(answer.into_inner()))
            } else {
                let request = self.timed(GetManyRequest { group, keys, explain: true });
                let answer = client.get_many(request).await;
                answer.map(|answer| Answers::Many(answer.into_inner().results))
            }
        };
        let ended = timeout(self.timeout, asked).await;
        let ended = ended.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        ended.unwrap_or_else(|status| Answers::Failed { status, keys: count })
    }

    fn timed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(rate: Option<f64>, requests: Option<u64>, end: Option<Instant>) -> Load {
        Load {
            group: "g".into(),
            batch: 1,
            rate,
            requests,
            end,
            start: Instant::now(),
            timeout: Duration::from_secs(1),
            begun: AtomicU64::new(0),
            measure: Mutex::new(Measure::new()),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_spaces_requests_and_late_ones_count_from_when_they_were_due() {
        let start = Instant::now();
        let load = load(Some(10.0), None, Some(start + Duration::from_secs(1)));
        assert_eq!(load.turn().await, Some(start));
        let second = load.turn().await.expect("within the second");
        assert_eq!((second - start).as_millis(), 100);
        // A slow answer: two requests should have been sent meanwhile.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let third = load.turn().await.expect("within the second");
        assert_eq!((third - start).as_millis(), 200);
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(load.turn().await, None, "its turn came after the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_of_requests_ends_the_load_for_all_workers_together() {
        let load = load(None, Some(3), None);
        let (a, b) = tokio::join!(load.turn(), load.turn());
        assert!(a.is_some() && b.is_some() && load.turn().await.is_some());
        assert_eq!(load.turn().await, None);
    }
}
