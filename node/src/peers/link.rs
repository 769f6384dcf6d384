//! The shell around [`PeerState`]: calls one peer, passes what happens to the state, and carries out
//! the effects.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder_proto::v1::{
    FetchKey, FetchRequest, FetchResult, LogPosition, SyncRequest, TakeOverRequest,
    TakeOverResponse,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::context::PeerContext;
use super::journal::SyncOutcome;
use super::remote::Remote;
use super::state::{ANSWER_TIMEOUT_MS, Conditions, Effects, Event, PeerState, apply, is_late};
use super::transport::{CallError, PeerConnection};
use crate::metrics::PeerMetrics;

/// A response that took longer is dropped, ms. Below the margin of a first contact
/// ([`super::exchange`]).
const MAX_SYNC_MS: u64 = ANSWER_TIMEOUT_MS + 250;

/// Shared by the tasks of one peer.
pub(super) struct Link {
    pub(super) name: Arc<str>,
    pub(super) metrics: PeerMetrics,
    pub(super) context: Arc<PeerContext>,
    pub(super) remote: Arc<Remote>,
    /// Cancelled when the peer is dropped.
    pub(super) gone: CancellationToken,
    /// It left the ring, and still answers for a while. That it ends is not worth a report.
    retired: AtomicBool,
    /// `None` if the registered address is invalid.
    connection: Option<Arc<dyn PeerConnection>>,
    state: Mutex<PeerState>,
    /// Mirrors `state`; read on every forward.
    usable: AtomicBool,
    status: watch::Sender<LinkStatus>,
    /// Notifies the sync task when its next sync is due earlier than before.
    sync_due: Notify,
}

/// What tasks wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct LinkStatus {
    is_new: bool,
    is_down: bool,
    /// Times that the calls in flight had to end without an answer.
    silences: u64,
}

/// How a call ends that brings no results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoAnswer;

impl Link {
    /// Must be called on a runtime.
    pub(super) fn new(name: &str, address: &str, context: Arc<PeerContext>) -> Self {
        let connection = context.deps.transport.open(address);
        if let Err(error) = &connection {
            tracing::warn!(peer = name, address, %error, "peer address is invalid");
        }
        Self {
            name: name.into(),
            metrics: context.deps.metrics.peer(name),
            remote: context.journal.remote(name),
            gone: CancellationToken::new(),
            retired: AtomicBool::new(false),
            connection: connection.ok(),
            state: Mutex::new(PeerState::new(context.deps.clock.now_ms())),
            usable: AtomicBool::new(true),
            status: watch::Sender::new(LinkStatus { is_new: true, is_down: false, silences: 0 }),
            sync_due: Notify::new(),
            context,
        }
    }

    pub(super) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed) || self.gone.is_cancelled()
    }

    /// Applies an event and carries out its effects. Returns the state after it.
    pub(super) fn event(&self, event: Event) -> PeerState {
        let deps = &self.context.deps;
        let mut state = self.state.lock();
        let mut ejections = self.context.ejections.lock();
        let at = Conditions {
            now_ms: deps.clock.now_ms(),
            may_eject: ejections.has_room(),
            ratio: deps.random.ratio(),
        };
        let (next, effects) = apply(*state, event, &at);
        ejections.record(&self.name, next.is_down_by_timeout() && !self.is_retired());
        drop(ejections);
        let earlier = next.sync_due_ms() < state.sync_due_ms();
        *state = next;
        // Under the lock, so that the mirrors change in the order of the events.
        self.usable.store(next.is_usable(), Ordering::Relaxed);
        self.status.send_if_modified(|status| {
            let silences = status.silences + u64::from(effects.fail_calls);
            let now = LinkStatus { is_new: next.is_new(), is_down: next.is_down(), silences };
            std::mem::replace(status, now) != now
        });
        drop(state);
        if earlier {
            self.sync_due.notify_one();
        }
        self.report_turn(effects);
        next
    }

    fn report_turn(&self, effects: Effects) {
        if self.is_retired() {
            return;
        }
        match effects.turned {
            Some(true) => tracing::info!(peer = %self.name, "peer answers again"),
            Some(false) => {
                self.context.deps.metrics.peers_down.inc();
                tracing::warn!(peer = %self.name, "peer does not answer, bypassing it");
            }
            None => return,
        }
        self.report(effects.turned == Some(true));
    }

    /// Passes on whether the peer answers.
    fn report(&self, answers: bool) {
        if let Some(listener) = self.context.health_listener.get() {
            listener(&self.name, answers);
        }
    }

    /// Reports again whether the peer answers, unless that is undecided.
    pub(super) fn report_health(&self) {
        let state = *self.state.lock();
        if state.is_down() || state.answers(self.context.deps.clock.now_ms()) {
            self.report(!state.is_down());
        }
    }

    /// The peer called this member or answered. `log_end` is the end of its log.
    pub(super) fn heard(&self, log_end: Option<&LogPosition>) {
        let log_grew = log_end.is_some_and(|end| self.remote.observe(end));
        self.event(Event::Heard { log_grew, confirmed: self.remote.confirmed() });
    }

    /// Waits until the peer may be called: until it has synced for the first time. False if it does
    /// not answer.
    pub(super) async fn wait_until_synced(&self) -> bool {
        let mut status = self.status.subscribe();
        let before = *status.borrow();
        // `self` owns the sender, so the channel cannot close.
        _ = status.wait_for(|now| !now.is_new || now.silences > before.silences).await;
        self.is_usable() && !status.borrow().is_new
    }

    /// Waits until the peer has confirmed an invalidation. False if it is down, if a sync that
    /// offered the invalidation failed, or after `limit`.
    pub(super) async fn wait_until_confirmed(&self, number: u64, limit: Duration) -> bool {
        let (mut status, mut progress) = (self.status.subscribe(), self.remote.progress());
        for last in [false, true] {
            let began = Instant::now();
            tokio::select! {
                biased;
                _ = progress.wait_for(|p| p.confirmed >= number || p.failed >= number) => break,
                _ = status.wait_for(|status| status.is_down) => break,
                () = sleep(limit) => {}
            }
            // A late timer shows that this member was stalled: the confirmation may be there.
            if last || began.elapsed() < limit * 2 {
                break;
            }
        }
        self.remote.confirmed() >= number
    }

    /// One `Fetch`. It ends without an answer at `deadline`, or when the peer does not answer a
    /// sync. `is_prompt` if the owner need not load: then a late response makes the peer suspect.
    pub(super) async fn fetch(
        &self,
        keys: Vec<FetchKey>,
        deadline: Instant,
        is_prompt: bool,
    ) -> Result<Vec<FetchResult>, NoAnswer> {
        let mut status = self.status.subscribe();
        let silences = status.borrow().silences;
        tokio::select! {
            biased;
            results = self.fetch_twice(keys) => results,
            _ = status.wait_for(|status| status.silences > silences) => Err(NoAnswer),
            () = sleep_until(deadline) => Err(NoAnswer),
            () = self.suspect_when_slow(), if is_prompt => Err(NoAnswer),
        }
    }

    /// A broken connection gets one more try: a peer may retire an old one without being down.
    async fn fetch_twice(&self, keys: Vec<FetchKey>) -> Result<Vec<FetchResult>, NoAnswer> {
        let connection = self.connection.as_ref().ok_or(NoAnswer)?;
        let request = FetchRequest {
            from: self.context.deps.member.to_string(),
            ring_revision: self.context.ring().revision,
            keys,
            log_end: Some(self.context.journal.log_end()),
        };
        for last in [false, true] {
            let call = self.event(Event::CallBegan).calls();
            let error = match connection.fetch(request.clone()).await {
                Ok(response) if response.results.len() == request.keys.len() => {
                    self.event(Event::CallAnswered);
                    self.heard(response.log_end.as_ref());
                    return Ok(response.results);
                }
                Ok(_) => {
                    self.event(Event::Rejected { call });
                    return Err(NoAnswer);
                }
                Err(error) => error,
            };
            tracing::debug!(peer = %self.name, %error, "call failed");
            match error {
                CallError::Broken(_) => self.event(Event::Broken { call }),
                CallError::TimedOut => self.event(Event::CallSlow { waited_ms: 0 }),
                CallError::Status(_) => self.event(Event::Rejected { call }),
            };
            if last || !matches!(error, CallError::Broken(_)) {
                break;
            }
            sleep(Duration::from_millis(1)).await;
        }
        Err(NoAnswer)
    }

    /// One `TakeOver`. Its failure says nothing about the peer: it may be large.
    pub(super) async fn take_over(
        &self,
        request: TakeOverRequest,
        limit: Duration,
    ) -> Result<TakeOverResponse, NoAnswer> {
        let connection = self.connection.as_ref().ok_or(NoAnswer)?;
        match timeout(limit, connection.take_over(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.name, %error, "entries not taken over");
                Err(NoAnswer)
            }
            Err(_) => Err(NoAnswer),
        }
    }

    /// Never returns.
    async fn suspect_when_slow(&self) {
        loop {
            let began = Instant::now();
            sleep(Duration::from_millis(ANSWER_TIMEOUT_MS)).await;
            self.event(Event::CallSlow { waited_ms: ms(began.elapsed()) });
        }
    }

    /// Syncs whenever the state requires it, until the peer is dropped or the node stops.
    pub(super) async fn keep_synced(self: Arc<Self>) {
        /// Longest sleep; the clock decides what is due.
        const LONGEST: Duration = Duration::from_secs(60);
        let stopping = self.context.deps.tasks.stopping().clone();
        let mut log_end = self.context.journal.subscribe();
        loop {
            let due_ms = self.state.lock().sync_due_ms();
            let wait_ms = due_ms.saturating_sub(self.context.deps.clock.now_ms());
            let step = async {
                if wait_ms == 0 {
                    // What is appended from here on is not in the request.
                    log_end.borrow_and_update();
                    return self.sync().await;
                }
                tokio::select! {
                    () = sleep(Duration::from_millis(wait_ms).min(LONGEST)) => {}
                    () = self.sync_due.notified() => {}
                    _ = log_end.changed() => {
                        self.event(Event::Appended);
                    }
                }
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.gone.cancelled() => return,
                () = step => {}
            }
        }
    }

    async fn sync(&self) {
        let (journal, clock) = (&self.context.journal, self.context.deps.clock);
        let state = journal.request(&self.remote, self.context.ring());
        let own_end = state.log_end.map_or(0, |end| end.number);
        let began_ms = clock.now_ms();
        let before = self.event(Event::SyncBegan);
        let (call, limit_ms) = (before.calls(), before.sync_limit_ms());
        let outcome = match &self.connection {
            Some(connection) => {
                let response = connection.sync(SyncRequest { state: Some(state) });
                let limit = Duration::from_millis(limit_ms);
                timeout(limit, response).await.unwrap_or(Err(CallError::TimedOut))
            }
            None => Err(CallError::Broken("the address is invalid".into())),
        };
        let waited_ms = clock.now_ms().saturating_sub(began_ms);
        let failure = match outcome {
            Ok(_) if waited_ms > MAX_SYNC_MS => Event::SyncTimedOut { waited_ms, limit_ms },
            Ok(response) if response.state.as_ref().is_some_and(|s| *s.member == *self.name) => {
                let outcome = journal.finish(&self.remote, response, own_end, began_ms);
                self.show_positions();
                let SyncOutcome { confirmed, complete, progressed } = outcome;
                self.event(Event::SyncAnswered { confirmed, complete, progressed });
                return;
            }
            Ok(_) | Err(CallError::Status(_)) => Event::Rejected { call },
            Err(CallError::TimedOut) => Event::SyncTimedOut { waited_ms, limit_ms },
            Err(CallError::Broken(_)) => Event::Broken { call },
        };
        self.show_positions();
        let after = self.event(failure);
        let is_retried_at_once = match failure {
            Event::SyncTimedOut { waited_ms, limit_ms } => is_late(waited_ms, limit_ms),
            Event::Broken { .. } => !after.is_down(),
            _ => false,
        };
        if !is_retried_at_once {
            self.remote.record_failure(own_end);
        }
    }

    fn show_positions(&self) {
        let unconfirmed = self.context.journal.end().saturating_sub(self.remote.confirmed());
        self.metrics.set_invalidations(self.remote.applied(), unconfirmed);
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
