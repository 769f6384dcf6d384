//! Pure: whether another load may wait for a slot of the bulkhead. The caller passes the time.
//!
//! A long queue absorbs a burst. Against a rate that the origin cannot serve it is of no use: it
//! stays full and only adds its length to the time of every load. The two differ in how long the
//! queue lasts, as in CoDel (RFC 8289):
//!
//! | State | Loads that may wait | Begins |
//! | --- | --- | --- |
//! | absorbing | [`WAITING_PER_SLOT`] for each slot | after an interval without a refusal |
//! | shedding | those that wait for at most half a load time | after an interval with longer waits |
//!
//! The wait is computed from the start of each running load and the typical time of a load. Half a
//! load time leaves the other half for the spread of load times, so that an accepted load takes
//! less than twice its usual time, and keeps all slots busy.
//!
//! The interval is measured in load times ([`INTERVAL`]). Before the first load has ended its time
//! is unknown, and nothing is shed.
//!
//! Applications and peers wait in a line each. The lines take turns, and only the kind with more
//! loads is shed.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Loads that may wait in a burst, for each one that may run.
pub(super) const WAITING_PER_SLOT: u32 = 16;
/// Load times after which a queue is no burst: those in which a full queue drains. So no burst is
/// shed that the queue could hold, however its loads are spread over time.
const INTERVAL: u32 = WAITING_PER_SLOT;
/// Bounds of the interval. A shorter one would take a busy processor for overload; a longer one
/// would let a slow origin's loads queue for many seconds.
const INTERVAL_BOUNDS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));
/// Bounds of the retry delay. Below them a retry costs more than waiting; above them a caller would
/// notice too late that the origin has recovered.
const RETRY_BOUNDS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// Where the request came from for which a key is loaded. Each kind has limits of its own, so that
/// neither can use up what the other needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requester {
    /// An application that reads through this member.
    Application,
    /// Another member that takes this one for the key's owner.
    Peer,
}

impl Requester {
    /// The variants, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Application, Self::Peer];

    /// The metric label `from`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Application => "application",
            Self::Peer => "peer",
        }
    }
}

/// The loads that run and those that wait for a slot.
#[derive(Debug)]
pub(super) struct Queue {
    concurrency: u32,
    /// A load that would wait longer is refused.
    longest_wait: Duration,
    /// Number and start of each running load, the oldest first.
    running: VecDeque<(u64, Instant)>,
    started: u64,
    lines: [Line; 2],
}

/// The waiting loads of one kind of requester.
#[derive(Debug, Default)]
struct Line {
    waiting: u32,
    running: u32,
    /// Since when every arriving load found others waiting and had to expect a long wait.
    long_since: Option<Instant>,
    shedding_until: Option<Instant>,
}

/// Why a load may not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The queue is full, or the load would wait longer than a load may take.
    Full { retry_after: Duration },
    /// Loads arrive faster than they end.
    Shed { wait: Duration, load_time: Duration, retry_after: Duration },
}

impl Queue {
    /// An empty queue in front of `concurrency` slots.
    pub(super) fn new(concurrency: u32, longest_wait: Duration) -> Self {
        let (running, lines) = (VecDeque::new(), Default::default());
        Self { concurrency, longest_wait, running, started: 0, lines }
    }

    /// Adds a load that found no free slot. `load_time` is the typical time of a load, if known.
    pub(super) fn enter(
        &mut self,
        requester: Requester,
        load_time: Option<Duration>,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.check(requester, load_time, now)?;
        self.lines[requester as usize].waiting += 1;
        Ok(())
    }

    /// [`Queue::enter`] without adding the load.
    pub(super) fn check(
        &mut self,
        requester: Requester,
        load_time: Option<Duration>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let waiting = self.lines[requester as usize].waiting;
        let mut too_late = false;
        if let Some(load_time) = load_time {
            let wait = self.wait(requester, load_time, now);
            too_late = wait > self.longest_wait;
            // Half a load time, rounded up to whole slots: the time in which half of them get free.
            let short = load_time * self.concurrency.div_ceil(2) / self.concurrency;
            let is_long = waiting >= self.concurrency
                || (wait > short && !self.has_less_than_the_other(requester));
            let interval = (load_time * INTERVAL).clamp(INTERVAL_BOUNDS.0, INTERVAL_BOUNDS.1);
            if self.lines[requester as usize].is_shedding(is_long, interval, now) {
                return Err(Refusal::Shed { wait, load_time, retry_after: interval });
            }
        }
        if too_late || waiting >= self.concurrency.saturating_mul(WAITING_PER_SLOT) {
            return Err(self.full(load_time));
        }
        Ok(())
    }

    /// Removes a load that got a slot or gave up.
    pub(super) fn leave(&mut self, requester: Requester) {
        self.lines[requester as usize].waiting -= 1;
    }

    /// Adds a running load and returns its number.
    pub(super) fn started(&mut self, requester: Requester, now: Instant) -> u64 {
        self.lines[requester as usize].running += 1;
        self.started += 1;
        self.running.push_back((self.started, now));
        self.started
    }

    pub(super) fn ended(&mut self, requester: Requester, number: u64) {
        self.lines[requester as usize].running -= 1;
        if let Ok(index) = self.running.binary_search_by_key(&number, |(number, _)| *number) {
            self.running.remove(index);
        }
    }

    /// The refusal of a full queue: retry when half of it will be done.
    pub(super) fn full(&self, load_time: Option<Duration>) -> Refusal {
        let half = load_time.map_or(RETRY_BOUNDS.1, |time| {
            time.saturating_mul(self.waiting() / 2) / self.concurrency
        });
        Refusal::Full { retry_after: half.clamp(RETRY_BOUNDS.0, RETRY_BOUNDS.1) }
    }

    /// True for a kind of requester with fewer loads than the other one: it does not cause the
    /// overload, so it is not shed.
    fn has_less_than_the_other(&self, requester: Requester) -> bool {
        let loads = |line: &Line| line.waiting + line.running;
        2 * loads(&self.lines[requester as usize]) < self.lines.iter().map(loads).sum()
    }

    /// Loads that wait.
    pub(super) fn waiting(&self) -> u32 {
        self.lines.iter().map(|line| line.waiting).sum()
    }

    /// How long a load that enters now will wait. The two lines take turns.
    fn wait(&self, requester: Requester, load_time: Duration, now: Instant) -> Duration {
        let own = self.lines[requester as usize].waiting;
        let ahead = own + (self.waiting() - own).min(own + 1);
        let (rounds, nth) = (ahead / self.concurrency, ahead % self.concurrency);
        // A slot without an entry was given to a load that is about to start.
        let started = self.running.get(nth as usize).map_or(now, |(_, started)| *started);
        let first = (started + load_time).saturating_duration_since(now);
        first + load_time.saturating_mul(rounds)
    }
}

impl Line {
    /// Decides for a load that arrives. A refusal prolongs the shedding, so it ends when the origin
    /// keeps up again, not when the line happens to be short for a moment.
    fn is_shedding(&mut self, is_long: bool, interval: Duration, now: Instant) -> bool {
        if !is_long {
            self.long_since = None;
            return false;
        }
        let shedding = self.shedding_until.is_some_and(|until| now < until);
        if !shedding && self.waiting == 0 {
            self.long_since = None;
            return false;
        }
        let long_since = *self.long_since.get_or_insert(now);
        if !shedding && now - long_since < interval {
            return false;
        }
        self.shedding_until = Some(now + interval);
        true
    }
}
