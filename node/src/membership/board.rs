//! The current view. The watch and the peers write it, one event at a time.

use std::sync::Arc;

use larder_runtime::clock::Clock;
use tokio::sync::watch;

use super::view::{Event, MembershipView, Rules, apply};

#[derive(Debug)]
pub(super) struct Board {
    views: watch::Sender<Arc<MembershipView>>,
    rules: Rules,
    clock: Clock,
}

/// Takes what peers find out about members. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reporter {
    board: Arc<Board>,
}

impl Board {
    pub(super) fn new(rules: Rules, clock: Clock) -> Self {
        Self { views: watch::Sender::default(), rules, clock }
    }

    /// Applies an event. Subscribers are notified only if something changed for them.
    pub(super) fn apply(&self, event: Event) {
        let now_ms = self.clock.now_ms();
        self.views.send_if_modified(|view| {
            let next = apply(view, event, &self.rules, now_ms);
            let differs = next.differs(view);
            if differs && next.distrusted != view.distrusted {
                tracing::warn!(
                    distrusted = next.distrusted,
                    members = next.members.len(),
                    departed = next.departed.len(),
                    "shrink guard changed; the ring is kept while the registry is distrusted"
                );
            }
            *view = Arc::new(next);
            differs
        });
    }

    pub(super) fn view(&self) -> Arc<MembershipView> {
        self.views.borrow().clone()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Arc<MembershipView>> {
        self.views.subscribe()
    }
}

impl Reporter {
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self { board }
    }

    /// The member answered. Call it once for each change, and for each probe of a departed member.
    pub fn answered(&self, member: &str) {
        self.board.apply(Event::PeerAnswered(member.to_owned()));
    }

    /// The member did not answer. It is removed as soon as its lease is gone too.
    pub fn failed(&self, member: &str) {
        self.board.apply(Event::PeerFailed(member.to_owned()));
    }
}
