//! What is known about one other member: its place in the exchange of invalidations, and when it
//! called. `journal.rs` keeps one for each.

use larder_proto::v1::{LogPosition, SyncMember};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::exchange::RemoteState;
use super::past::PeerAnswer;
use super::recorder::Ticket;

/// Another member, in the ring or not.
#[derive(Default)]
pub(super) struct Remote {
    pub(super) inner: Mutex<RemoteInner>,
    /// Never decreases.
    pub(super) progress: watch::Sender<Progress>,
}

#[derive(Default)]
pub(super) struct RemoteInner {
    pub(super) exchange: RemoteState,
    /// When something of its log was last applied here, ms.
    pub(super) applied_ms: Option<u64>,
    /// The record of the first contact with its log. The position is not reported before it is
    /// kept: otherwise this member could forget that it applied something of that log.
    pub(super) met: Ticket,
    /// But not later than that, ms: a disk that hangs must not keep the peer from using this member.
    pub(super) met_limit_ms: u64,
    /// Its last response that left nothing of its log to apply.
    pub(super) answer: Option<PeerAnswer>,
    pub(super) uid: String,
    /// When it sent the last request, ms, and its ring revision then.
    pub(super) heard_ms: u64,
    pub(super) revision: u64,
    /// The first and the last invalidation that it did not confirm in time and has not yet.
    pub(super) late: Option<(u64, u64)>,
    /// The members of its ring at `named_revision`, if they differ from this member's.
    pub(super) named: Vec<SyncMember>,
    pub(super) named_revision: u64,
}

/// How far a peer has confirmed this member's log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) confirmed: u64,
    /// The log up to here was offered to it without a response.
    pub(super) failed: u64,
}

impl Remote {
    /// Takes the end of the peer's log from a call. True if this member is behind it.
    pub(super) fn observe(&self, position: &LogPosition) -> bool {
        self.inner.lock().exchange.observe(position)
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.progress.borrow().confirmed
    }

    /// How much of the peer's log has been applied here.
    pub(super) fn applied(&self) -> u64 {
        self.inner.lock().exchange.applied()
    }

    /// The peer did not confirm an invalidation in time.
    pub(super) fn record_late(&self, number: u64) {
        let mut inner = self.inner.lock();
        let (from, to) = inner.late.unwrap_or((number, number));
        inner.late = Some((from.min(number), to.max(number)));
    }

    /// A sync that offered the log up to `end` got no response.
    pub(super) fn record_failure(&self, end: u64) {
        self.progress.send_if_modified(|progress| {
            let grew = end > progress.failed;
            progress.failed = progress.failed.max(end);
            grew
        });
    }
}

impl RemoteInner {
    /// True if it called in the last `ms`.
    pub(super) fn called_within(&self, ms: u64, now_ms: u64) -> bool {
        self.heard_ms > 0 && now_ms.saturating_sub(self.heard_ms) < ms
    }
}
