//! Transcripts: each line is an event and the state after it.

use super::*;

/// A peer on a clock that the test moves.
struct Peer {
    state: PeerState,
    at: Conditions,
    effects: Effects,
}

impl Peer {
    fn new() -> Self {
        let at = Conditions { now_ms: 10_000, may_eject: true, ratio: 0.0 };
        Self { state: PeerState::new(at.now_ms), at, effects: Effects::default() }
    }

    /// A peer that has synced.
    fn up() -> Self {
        let mut peer = Self::new();
        peer.event(Event::SyncBegan);
        assert_eq!(peer.event(COMPLETE), "up");
        peer
    }

    fn after(&mut self, ms: u64) -> &mut Self {
        self.at.now_ms += ms;
        self
    }

    fn event(&mut self, event: Event) -> &'static str {
        (self.state, self.effects) = apply(self.state, event, &self.at);
        match (self.state.phase, self.state.is_usable()) {
            (Phase::New, _) => "new",
            (Phase::Up, true) => "up",
            (Phase::Up, false) => "held",
            (Phase::Suspect, _) => "suspect",
            (Phase::Down { .. }, _) => "down",
        }
    }

    /// Begins a sync that brings no response within its limit.
    fn silent_sync(&mut self) -> &'static str {
        let limit_ms = self.state.sync_limit_ms();
        self.event(Event::SyncBegan);
        self.after(limit_ms).event(Event::SyncTimedOut { waited_ms: limit_ms, limit_ms })
    }

    fn broken_call(&mut self) -> &'static str {
        self.event(Event::CallBegan);
        let call = self.state.calls();
        self.event(Event::Broken { call })
    }

    fn sync_in_ms(&self) -> u64 {
        self.state.sync_due_ms().saturating_sub(self.at.now_ms)
    }
}

const COMPLETE: Event = Event::SyncAnswered { confirmed: 0, complete: true, progressed: true };
const PARTIAL: Event = Event::SyncAnswered { confirmed: 0, complete: false, progressed: true };
const SLOW: Event = Event::CallSlow { waited_ms: ANSWER_TIMEOUT_MS };

fn heard(confirmed: u64) -> Event {
    Event::Heard { log_grew: false, confirmed }
}

#[test]
fn a_peer_is_used_after_its_first_complete_sync() {
    let mut peer = Peer::new();
    assert_eq!(peer.sync_in_ms(), 0);
    peer.event(Event::SyncBegan);
    assert_eq!(peer.event(PARTIAL), "new");
    assert_eq!(peer.sync_in_ms(), 0, "the rest follows at once");
    peer.event(Event::SyncBegan);
    peer.event(Event::SyncAnswered { confirmed: 0, complete: false, progressed: false });
    assert_eq!(peer.sync_in_ms(), PROBE_TIMEOUT_MS, "no busy loop without progress");
    peer.event(Event::SyncBegan);
    assert_eq!(peer.event(COMPLETE), "up");
    assert_eq!(peer.sync_in_ms(), IDLE_INTERVAL_MS);
}

#[test]
fn two_broken_connections_in_a_row_eject_at_once() {
    let mut peer = Peer::up();
    assert_eq!(peer.broken_call(), "up");
    assert_eq!(peer.sync_in_ms(), 0, "the sync opens the next connection");
    assert_eq!(peer.broken_call(), "down");
    assert_eq!(peer.effects, Effects { turned: Some(false), fail_calls: true });
}

#[test]
fn many_calls_on_one_retired_connection_count_once() {
    let mut peer = Peer::up();
    (0..8).for_each(|_| _ = peer.event(Event::CallBegan));
    for call in 1..=peer.state.calls() {
        assert_eq!(peer.event(Event::Broken { call }), "up");
    }
    peer.event(Event::CallBegan);
    assert_eq!(peer.event(Event::CallAnswered), "up");
    assert_eq!(peer.broken_call(), "up", "the answer in between starts the count again");
}

#[test]
fn a_slow_call_makes_a_suspect_and_an_answered_sync_clears_it() {
    let mut peer = Peer::up();
    assert_eq!(peer.event(SLOW), "suspect");
    assert!(peer.state.is_usable() && peer.sync_in_ms() == 0);
    assert_eq!(peer.state.sync_limit_ms(), PROBE_TIMEOUT_MS);
    peer.event(Event::SyncBegan);
    assert_eq!(peer.after(150).event(COMPLETE), "up");
    assert_eq!(peer.effects, Effects::default());
}

#[test]
fn a_suspect_that_does_not_answer_a_sync_is_ejected() {
    let mut peer = Peer::up();
    peer.event(SLOW);
    assert_eq!(peer.silent_sync(), "down");
    assert!(peer.effects.fail_calls && peer.state.is_down_by_timeout());
    // It is probed with growing delays, and used again after a complete sync.
    let mut delays = Vec::new();
    for _ in 0..6 {
        delays.push(peer.sync_in_ms());
        let due = peer.sync_in_ms();
        assert_eq!(peer.after(due).silent_sync(), "down");
        assert_eq!(peer.effects.turned, None);
    }
    assert_eq!(delays, [100, 200, 400, 800, 1_600, 2_000]);
    peer.event(Event::SyncBegan);
    assert_eq!(peer.event(PARTIAL), "down");
    peer.event(Event::SyncBegan);
    assert_eq!(peer.event(COMPLETE), "up");
    assert_eq!(peer.effects.turned, Some(true));
}

#[test]
fn a_silent_peer_without_traffic_is_ejected_by_its_idle_syncs() {
    let mut peer = Peer::up();
    let began_ms = peer.at.now_ms;
    peer.after(IDLE_INTERVAL_MS);
    assert_eq!(peer.silent_sync(), "suspect");
    assert_eq!(peer.silent_sync(), "down");
    assert!(peer.at.now_ms - began_ms < 2_000);
}

#[test]
fn a_late_timer_is_no_evidence() {
    let mut peer = Peer::up();
    let late = Event::CallSlow { waited_ms: ANSWER_TIMEOUT_MS + 400 };
    assert_eq!(peer.event(late), "up");
    peer.event(SLOW);
    for _ in 0..10 {
        peer.event(Event::SyncBegan);
        let late = Event::SyncTimedOut { waited_ms: 900, limit_ms: PROBE_TIMEOUT_MS };
        assert_eq!(peer.after(900).event(late), "suspect");
        assert_eq!((peer.effects, peer.sync_in_ms()), (Effects::default(), 0));
    }
}

#[test]
fn timeouts_beyond_the_share_fail_calls_but_do_not_eject() {
    let mut peer = Peer::up();
    peer.at.may_eject = false;
    peer.event(SLOW);
    assert_eq!(peer.silent_sync(), "suspect");
    assert_eq!(peer.effects, Effects { turned: None, fail_calls: true });
    // Broken connections are proof, whatever the share.
    peer.broken_call();
    assert_eq!(peer.broken_call(), "down");
    assert!(!peer.state.is_down_by_timeout());
}

#[test]
fn error_statuses_eject_after_three_in_a_row() {
    let mut peer = Peer::up();
    peer.event(Event::CallBegan);
    let rejected = Event::Rejected { call: peer.state.calls() };
    peer.event(rejected);
    peer.event(rejected);
    peer.event(Event::CallAnswered);
    peer.event(rejected);
    assert_eq!(peer.event(rejected), "up");
    assert_eq!(peer.event(rejected), "down");
}

#[test]
fn calls_from_before_an_ejection_do_not_delay_the_next_probe() {
    let mut peer = Peer::up();
    (0..8).for_each(|_| _ = peer.event(Event::CallBegan));
    peer.event(SLOW);
    assert_eq!(peer.silent_sync(), "down");
    for call in 2..=9 {
        peer.event(Event::Broken { call });
        peer.event(Event::Rejected { call });
        assert_eq!((peer.sync_in_ms(), peer.effects), (100, Effects::default()));
    }
    // A failed sync does, without a limit below that of the backoff.
    for delay in [200, 400, 800] {
        peer.event(Event::SyncBegan);
        peer.event(Event::Rejected { call: peer.state.calls() });
        assert_eq!(peer.sync_in_ms(), delay);
    }
}

#[test]
fn a_peer_that_has_not_confirmed_is_bypassed_until_it_has() {
    let mut peer = Peer::up();
    assert_eq!(peer.event(Event::Unconfirmed { number: 7 }), "held");
    assert_eq!(peer.event(heard(6)), "held");
    assert_eq!(peer.event(Event::Unconfirmed { number: 5 }), "held");
    assert_eq!(peer.effects.turned, None, "it answers");
    assert_eq!(peer.event(heard(7)), "up");
}

#[test]
fn an_append_or_a_call_from_the_peer_brings_the_next_sync_forward() {
    let mut peer = Peer::up();
    peer.event(heard(0));
    assert_eq!(peer.sync_in_ms(), IDLE_INTERVAL_MS);
    peer.event(Event::Appended);
    assert_eq!(peer.sync_in_ms(), 0);
    peer.event(Event::SyncBegan);
    peer.event(Event::Appended);
    peer.event(COMPLETE);
    assert_eq!(peer.sync_in_ms(), 0, "what came during a sync needs another");

    // While it is down, only a sign of life does.
    peer.event(SLOW);
    (0..3).for_each(|_| _ = peer.silent_sync());
    peer.event(Event::Appended);
    assert_eq!(peer.sync_in_ms(), 400);
    peer.event(heard(0));
    assert_eq!(peer.sync_in_ms(), HEARD_DELAY_MS);
    peer.after(60).event(heard(0));
    assert_eq!(peer.sync_in_ms(), 40);
}
