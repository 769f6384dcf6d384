//! The end of a log's record: where the log of a member is kept over a restart. The snapshot module
//! provides it; without one, every record counts as kept.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::log::Invalidation;

/// What has to be kept, in this order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LogEvent<'e> {
    /// The next invalidation of this member's log.
    Own { number: u64, what: &'e Invalidation },
    /// The first contact with a log of another member.
    Met { member: &'e str, incarnation: u64 },
}

/// A record's place among all records. The default is one that is kept already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(pub(crate) u64);

/// Hands records over. Never blocks.
pub(crate) struct Recorder {
    pub(crate) sink: Box<dyn Fn(LogEvent<'_>) -> Ticket + Send + Sync>,
    /// The last record up to which all are kept.
    pub(crate) kept: watch::Receiver<Ticket>,
}

impl Recorder {
    pub(super) fn record(&self, event: LogEvent<'_>) -> Ticket {
        (self.sink)(event)
    }

    pub(super) fn has(&self, ticket: Ticket) -> bool {
        *self.kept.borrow() >= ticket
    }

    /// False after `limit`, or if the recorder stopped before.
    pub(super) async fn wait_for(&self, ticket: Ticket, limit: Duration) -> bool {
        let mut kept = self.kept.clone();
        let kept = timeout(limit, kept.wait_for(|kept| *kept >= ticket)).await;
        kept.is_ok_and(|kept| kept.is_ok())
    }
}
