//! One peer's part in the exchange of invalidations: how far each end has applied the other's log.
//! Pure; `journal.rs` holds the locks and applies what arrives.
//!
//! # Guarantees
//! - `applied` moves only with what has been applied.
//! - `confirmed` belongs to the process `incarnation`: a restarted peer has confirmed nothing, until
//!   it names a position that it saved.
//! - A position in the log of an earlier process is one in the log that continues it, as far as that
//!   was kept ([`OwnLogs`]).

use larder_proto::v1::{self, AppliedLog, LogPosition, SyncState};

use super::log::{InvalidationLog, Run};
use super::wire::to_wire;

/// Added to a peer's uptime, ms. Covers the rounding of durations, and the time that a request
/// takes to arrive: a caller drops a response that comes later than that.
const UPTIME_MARGIN_MS: u64 = 1_000;
/// Clocks of two machines may differ in speed by less than one part of this.
const CLOCK_DRIFT: u64 = 1_000;

/// What is known about a peer's process.
#[derive(Debug, Default, Clone)]
pub(super) struct RemoteState {
    /// 0 before the first contact.
    incarnation: u64,
    /// When the process started at the earliest, on this member's clock.
    started_ms: Option<u64>,
    /// How much of its log has been applied here.
    applied: Option<u64>,
    /// The end of its log, as far as known.
    end: u64,
    /// How much of this member's log it has applied.
    confirmed: Option<u64>,
}

/// The processes whose log this one keeps.
#[derive(Debug, Clone)]
pub(super) struct OwnLogs {
    /// Identifies this process. Never 0.
    pub(super) incarnation: u64,
    /// Oldest first. Each number is the end of what the next process kept of the log.
    pub(super) predecessors: Vec<LogPosition>,
}

impl OwnLogs {
    /// The position in this process's log that equals `number` in the log of `incarnation`; `None`
    /// if that log is not continued here.
    fn position(&self, incarnation: u64, number: u64) -> Option<u64> {
        if incarnation == self.incarnation {
            return Some(number);
        }
        kept(&self.predecessors, incarnation).map(|end| number.min(end))
    }
}

/// How much of an earlier log was kept.
fn kept(predecessors: &[LogPosition], incarnation: u64) -> Option<u64> {
    predecessors.iter().find(|log| log.incarnation == incarnation).map(|log| log.number)
}

/// The end of an exchange at which a message arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// A request; it may be older than what is known.
    Request,
    /// The response to the only sync in flight to this peer, which began then.
    Response { began_ms: u64 },
}

impl RemoteState {
    /// What an earlier process of this member had applied.
    pub(super) fn saved(log: &AppliedLog) -> Self {
        let (applied, end) = (log.number, log.number.unwrap_or(0));
        Self { incarnation: log.incarnation, applied, end, ..Self::default() }
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// True if everything in the peer's log has been applied here, as far as known.
    pub(super) fn is_caught_up(&self) -> bool {
        self.incarnation != 0 && self.applied() >= self.end
    }

    /// The position to save.
    pub(super) fn saved_position(&self, member: &str) -> AppliedLog {
        let (member, incarnation) = (member.to_owned(), self.incarnation);
        AppliedLog { member, incarnation, number: self.applied }
    }

    /// The state once the peer has another incarnation. The restarted process may have kept its
    /// log, but has confirmed only what it says itself.
    fn restarted(&self, incarnation: u64, predecessors: &[LogPosition]) -> Self {
        let kept = kept(predecessors, self.incarnation).filter(|_| self.incarnation != 0);
        let applied = kept.and_then(|end| Some(self.applied?.min(end)));
        Self { incarnation, applied, ..Self::default() }
    }

    pub(super) fn applied(&self) -> u64 {
        self.applied.unwrap_or(0)
    }

    /// How much of the peer's log has been applied here. Without an incarnation before the first
    /// contact.
    pub(super) fn position(&self) -> LogPosition {
        LogPosition { incarnation: self.incarnation, number: self.applied() }
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed.unwrap_or(0)
    }

    /// True if neither end has anything to send, for a log that ended at `own_end`.
    pub(super) fn is_complete(&self, own_end: u64) -> bool {
        self.incarnation != 0 && self.confirmed() >= own_end && self.applied() >= self.end
    }

    /// True if an exchange since `before` has changed nothing.
    pub(super) fn has_same_positions(&self, before: &Self) -> bool {
        let positions = |state: &Self| (state.incarnation, state.applied, state.confirmed);
        positions(self) == positions(before)
    }

    /// Takes the end of the peer's log from a call. True if this member is behind it.
    pub(super) fn observe(&mut self, position: &LogPosition) -> bool {
        if position.incarnation == self.incarnation {
            self.end = self.end.max(position.number);
        }
        position.incarnation != self.incarnation || self.applied() < self.end
    }

    /// Takes the peer's message. The caller applies the result before it reads `self` again.
    pub(super) fn receive(
        &mut self,
        message: &mut SyncState,
        own: &OwnLogs,
        arrival: Arrival,
    ) -> Vec<v1::Invalidation> {
        let end = message.log_end.unwrap_or_default();
        if end.incarnation != self.incarnation {
            *self = self.restarted(end.incarnation, &message.predecessors);
        }
        self.end = self.end.max(end.number);
        if let Arrival::Response { began_ms } = arrival {
            self.started_ms = Some(earliest_start(message.uptime_ms, began_ms));
        }
        let addressed = message.receiver_incarnation;
        if own.position(addressed, 0).is_none() {
            return Vec::new();
        }
        let applied = message.applied.and_then(|number| own.position(addressed, number));
        self.confirmed = match arrival {
            Arrival::Request => self.confirmed.max(applied),
            // The peer may have forgotten its position, which is then sent again.
            Arrival::Response { .. } => applied,
        };
        if addressed != own.incarnation {
            // The run follows what the previous process had applied.
            return Vec::new();
        }
        let Some(run) = message.run.take() else { return Vec::new() };
        let next = match self.applied {
            None => run.first_contact,
            Some(applied) => run.after <= applied,
        };
        if !next {
            return Vec::new();
        }
        let position = self.applied();
        self.applied = Some(position.max(run.through));
        run.invalidations.into_iter().filter(|what| what.number > position).collect()
    }

    /// What the peer gets in a request. Without a known start it gets nothing.
    pub(super) fn run_for_request(&self, log: &InvalidationLog) -> Option<v1::LogRun> {
        match (self.confirmed, self.started_ms) {
            (Some(position), _) => run_after(log, position),
            (None, Some(started_ms)) => first_run(log, started_ms),
            (None, None) => None,
        }
    }

    /// This member's part of a message to the peer.
    pub(super) fn fill(&self, message: &mut SyncState) {
        message.receiver_incarnation = self.incarnation;
        message.applied = self.applied;
    }
}

/// What the sender of `request` gets in the response.
pub(super) fn run_for_response(
    log: &InvalidationLog,
    request: &SyncState,
    own: &OwnLogs,
    now_ms: u64,
) -> Option<v1::LogRun> {
    let applied = request.applied;
    match applied.and_then(|number| own.position(request.receiver_incarnation, number)) {
        Some(position) => run_after(log, position),
        None => first_run(log, earliest_start(request.uptime_ms, now_ms)),
    }
}

/// How far a duration of another member may be off here.
pub(super) fn margin_ms(duration_ms: u64) -> u64 {
    UPTIME_MARGIN_MS + duration_ms / CLOCK_DRIFT
}

/// When a process with this uptime started at the earliest, for an uptime read after `read_ms`.
fn earliest_start(uptime_ms: u64, read_ms: u64) -> u64 {
    read_ms.saturating_sub(uptime_ms.saturating_add(margin_ms(uptime_ms)))
}

fn run_after(log: &InvalidationLog, position: u64) -> Option<v1::LogRun> {
    (position < log.end()).then(|| run_to_wire(&log.after(position), false))
}

/// The run that gives a position to a receiver without one. An empty log needs none.
fn first_run(log: &InvalidationLog, started_ms: u64) -> Option<v1::LogRun> {
    (log.end() > 0).then(|| run_to_wire(&log.after(log.position_at(started_ms)), true))
}

fn run_to_wire(run: &Run, first_contact: bool) -> v1::LogRun {
    let invalidations = run.invalidations.iter().map(|(number, what)| to_wire(*number, what));
    let invalidations = invalidations.collect();
    v1::LogRun { after: run.after, through: run.through, first_contact, invalidations }
}

#[cfg(test)]
mod tests;
