//! What this member knows about whether a peer answers: `(state, effects) = apply(state, event,
//! conditions)`. Pure; `link.rs` measures, calls and carries out the effects.
//!
//! A peer is ejected by evidence. A connection that is refused or breaks twice in a row is proof. A
//! call without a response is not, because its response may be large or the peer busy: it makes the
//! peer *suspect*, and a sync, which is small, decides within [`PROBE_TIMEOUT_MS`]. A timer that
//! fires late shows that this member was stalled and is no evidence.
//!
//! A peer that has not confirmed an invalidation in time is *held*: it answers, but its entries may
//! be old, so it is bypassed until it has confirmed.

use std::time::Duration;

use larder_backoff::BackoffPolicy;

/// A call without a response for this long makes its peer suspect, ms.
pub(super) const ANSWER_TIMEOUT_MS: u64 = 500;
/// Time limit of the sync that decides about a suspect, ms.
const PROBE_TIMEOUT_MS: u64 = 200;
/// Time between two syncs if nothing requires one earlier, ms.
const IDLE_INTERVAL_MS: u64 = 1_000;
/// A timer that fires later than this is late, ms. A quarter of the shorter limit, above what a
/// busy scheduler delays a task.
const LATE_MS: u64 = 50;
/// Delay of the sync with an ejected peer that calls this member, ms.
const HEARD_DELAY_MS: u64 = 100;
/// Consecutive error statuses that eject a peer.
const MAX_REJECTIONS: u32 = 3;
/// Delays between the probes of an ejected peer.
const RETRY: Result<BackoffPolicy, larder_backoff::Error> =
    BackoffPolicy::new(Duration::from_millis(100), 2, Duration::from_secs(2), 20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PeerState {
    phase: Phase,
    /// The invalidation that the peer must confirm before it is used again.
    held: Option<u64>,
    /// Number of the latest call.
    calls: u64,
    /// Number of the latest sync.
    sync: u64,
    /// Calls up to this number used a connection that has failed since. A failure of a later one is
    /// the second in a row.
    broken: Option<u64>,
    /// Error statuses in a row.
    rejections: u32,
    /// Failed syncs since the peer was ejected.
    failures: u32,
    sync_due_ms: u64,
    last_answer_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No sync has completed. Keys for the peer wait for it.
    New,
    Up,
    /// A call has no response in time; the next sync decides.
    Suspect,
    /// Ejected: bypassed until a sync completes.
    Down {
        /// Counts towards the share of peers that timeouts may eject.
        by_timeout: bool,
    },
}

/// What happened. A call is one `Fetch`; a sync is the only call that decides about a suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A call begins. It gets the number [`PeerState::calls`].
    CallBegan,
    /// A sync begins. It gets a number too.
    SyncBegan,
    CallAnswered,
    /// No response yet. The timer was set to [`ANSWER_TIMEOUT_MS`].
    CallSlow {
        waited_ms: u64,
    },
    /// The connection of a call or a sync was refused or broke.
    Broken {
        call: u64,
    },
    /// A call or a sync brought an error status or an invalid response.
    Rejected {
        call: u64,
    },
    /// `complete` if both ends have applied what the other had when the sync began, `progressed` if
    /// either applied something. The peer has confirmed the own log up to `confirmed`.
    SyncAnswered {
        confirmed: u64,
        complete: bool,
        progressed: bool,
    },
    SyncTimedOut {
        waited_ms: u64,
        limit_ms: u64,
    },
    /// The peer did not confirm this invalidation in time.
    Unconfirmed {
        number: u64,
    },
    /// The own log has grown.
    Appended,
    /// The peer called this member, or answered a call. `log_grew` if its log is ahead of what has
    /// been applied here.
    Heard {
        log_grew: bool,
        confirmed: u64,
    },
}

/// The circumstances of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditions {
    pub(super) now_ms: u64,
    /// Timeouts may eject one more peer.
    pub(super) may_eject: bool,
    /// For jitter, in `0.0..1.0`.
    pub(super) ratio: f64,
}

/// What the shell does after an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// The peer was ejected (`false`) or answers again (`true`).
    pub(super) turned: Option<bool>,
    /// The peer gives no answer: calls in flight end without one.
    pub(super) fail_calls: bool,
}

/// True if a timer fired so late that this member must have been stalled.
pub(super) fn is_late(waited_ms: u64, limit_ms: u64) -> bool {
    waited_ms > limit_ms + LATE_MS
}

impl PeerState {
    /// A peer that has to sync before it is used.
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            phase: Phase::New,
            held: None,
            calls: 0,
            sync: 0,
            broken: None,
            rejections: 0,
            failures: 0,
            sync_due_ms: now_ms,
            last_answer_ms: None,
        }
    }

    /// False while the peer is bypassed.
    pub(super) fn is_usable(&self) -> bool {
        self.held.is_none() && !self.is_down()
    }

    pub(super) fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down { .. })
    }

    pub(super) fn is_down_by_timeout(&self) -> bool {
        self.phase == Phase::Down { by_timeout: true }
    }

    /// True until the first sync has completed or the peer is ejected.
    pub(super) fn is_new(&self) -> bool {
        self.phase == Phase::New
    }

    /// True if the peer answered lately and nothing is held against it.
    pub(super) fn answers(&self, now_ms: u64) -> bool {
        let lately = |at_ms| now_ms.saturating_sub(at_ms) < 2 * IDLE_INTERVAL_MS;
        self.phase == Phase::Up && self.last_answer_ms.is_some_and(lately)
    }

    /// Number of the latest call.
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    /// When the next sync begins.
    pub(super) fn sync_due_ms(&self) -> u64 {
        self.sync_due_ms
    }

    /// Time limit of the next sync.
    pub(super) fn sync_limit_ms(&self) -> u64 {
        match self.phase {
            Phase::Suspect => PROBE_TIMEOUT_MS,
            Phase::New | Phase::Up | Phase::Down { .. } => ANSWER_TIMEOUT_MS,
        }
    }

    fn release(&mut self, confirmed: u64) {
        self.held = self.held.filter(|held| *held > confirmed);
    }

    fn sync_at(&mut self, at_ms: u64) {
        self.sync_due_ms = self.sync_due_ms.min(at_ms);
    }

    /// Ejects the peer, or records another failed probe.
    fn eject(&mut self, by_timeout: bool, at: &Conditions) -> Effects {
        let was_down = self.is_down();
        self.failures = if was_down { self.failures + 1 } else { 1 };
        self.phase = Phase::Down { by_timeout };
        let delay = RETRY.expect("a valid policy").delay(self.failures, at.ratio);
        self.sync_due_ms = at.now_ms + u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Effects { turned: (!was_down).then_some(false), fail_calls: true }
    }

    /// The peer answered: earlier evidence against it is void.
    fn answered(&mut self, now_ms: u64) {
        self.last_answer_ms = Some(now_ms);
        (self.broken, self.rejections) = (None, 0);
        if self.phase == Phase::Suspect {
            self.phase = Phase::Up;
        }
    }

    fn broken(&mut self, call: u64, at: &Conditions) -> Effects {
        match self.broken {
            _ if self.is_down() => return self.failed_while_down(call, at),
            Some(broken) if call > broken => return self.eject(false, at),
            // The connection of this call is known to have failed.
            Some(_) => {}
            // A peer may retire an old connection without being down. The sync opens another.
            None => self.broken = Some(self.calls),
        }
        self.sync_at(at.now_ms);
        Effects::default()
    }

    fn rejected(&mut self, call: u64, at: &Conditions) -> Effects {
        if self.is_down() {
            return self.failed_while_down(call, at);
        }
        self.rejections += 1;
        if self.rejections >= MAX_REJECTIONS {
            return self.eject(false, at);
        }
        self.sync_at(at.now_ms + PROBE_TIMEOUT_MS);
        Effects::default()
    }

    /// Only syncs probe an ejected peer. Calls from before its ejection show nothing new.
    fn failed_while_down(&mut self, call: u64, at: &Conditions) -> Effects {
        if call == self.sync { self.eject(false, at) } else { Effects::default() }
    }

    fn sync_timed_out(&mut self, late: bool, at: &Conditions) -> Effects {
        match self.phase {
            _ if late => self.sync_at(at.now_ms),
            Phase::Down { by_timeout } => return self.eject(by_timeout, at),
            Phase::Up => {
                self.phase = Phase::Suspect;
                self.sync_at(at.now_ms);
            }
            Phase::New | Phase::Suspect if at.may_eject => return self.eject(true, at),
            Phase::New | Phase::Suspect => {
                // Calls to it fail one by one while it stays in use.
                self.sync_due_ms = at.now_ms + PROBE_TIMEOUT_MS;
                return Effects { fail_calls: true, ..Effects::default() };
            }
        }
        Effects::default()
    }
}

/// The state after an event, and what the shell has to do.
pub(super) fn apply(mut state: PeerState, event: Event, at: &Conditions) -> (PeerState, Effects) {
    let now_ms = at.now_ms;
    let mut effects = Effects::default();
    match event {
        Event::CallBegan => state.calls += 1,
        Event::SyncBegan => {
            state.calls += 1;
            state.sync = state.calls;
            // Its end sets the next one, unless an event during the sync requires one earlier.
            state.sync_due_ms = u64::MAX;
        }
        Event::CallAnswered => state.answered(now_ms),
        Event::CallSlow { waited_ms } => {
            if !is_late(waited_ms, ANSWER_TIMEOUT_MS) && state.phase == Phase::Up {
                state.phase = Phase::Suspect;
                state.sync_at(now_ms);
            }
        }
        Event::Broken { call } => effects = state.broken(call, at),
        Event::Rejected { call } => effects = state.rejected(call, at),
        Event::SyncAnswered { confirmed, complete, progressed } => {
            state.answered(now_ms);
            state.release(confirmed);
            state.failures = 0;
            if complete && state.phase != Phase::Up {
                effects.turned = state.is_down().then_some(true);
                state.phase = Phase::Up;
            }
            let pause_ms = match (complete, progressed) {
                (true, _) => IDLE_INTERVAL_MS,
                (false, true) => 0,
                (false, false) => PROBE_TIMEOUT_MS,
            };
            state.sync_at(now_ms + pause_ms);
        }
        Event::SyncTimedOut { waited_ms, limit_ms } => {
            effects = state.sync_timed_out(is_late(waited_ms, limit_ms), at);
        }
        Event::Unconfirmed { number } => state.held = state.held.max(Some(number)),
        // An ejected peer is not called for every invalidation. It catches up before it is used.
        Event::Appended if state.is_down() => {}
        Event::Appended => state.sync_at(now_ms),
        Event::Heard { log_grew, confirmed } => {
            state.release(confirmed);
            if state.is_down() {
                // Not at once: it may call often while no call reaches it.
                state.sync_at(now_ms + HEARD_DELAY_MS);
            } else if log_grew {
                state.sync_at(now_ms);
            }
        }
    }
    (state, effects)
}

#[cfg(test)]
mod tests;
