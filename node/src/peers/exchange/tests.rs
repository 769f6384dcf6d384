use super::super::log::{Invalidation, LogLimits};
use super::*;

/// One process with what it knows about the other.
struct End {
    own: OwnLogs,
    log: InvalidationLog,
    remote: RemoteState,
    started_ms: u64,
    /// Groups dropped, in order.
    dropped: Vec<String>,
}

impl End {
    fn new(incarnation: u64, started_ms: u64) -> Self {
        let log = InvalidationLog::new(LogLimits { run_entries: 2, ..LogLimits::of_capacity(0) });
        let own = OwnLogs { incarnation, predecessors: Vec::new() };
        Self { own, log, remote: RemoteState::default(), started_ms, dropped: Vec::new() }
    }

    fn drop_group(&mut self, group: &str, now_ms: u64) {
        let group = Some(group.into());
        let (keys, tags) = Default::default();
        self.log.append(Invalidation { group, keys, tags, copies_only: false }, now_ms);
    }

    fn state(&self, now_ms: u64) -> SyncState {
        let end = LogPosition { incarnation: self.own.incarnation, number: self.log.end() };
        let mut state = SyncState {
            log_end: Some(end),
            uptime_ms: now_ms - self.started_ms,
            predecessors: self.own.predecessors.clone(),
            ..SyncState::default()
        };
        self.remote.fill(&mut state);
        state
    }

    fn request(&self, now_ms: u64) -> SyncState {
        SyncState { run: self.remote.run_for_request(&self.log), ..self.state(now_ms) }
    }

    fn receive(&mut self, mut message: SyncState, arrival: Arrival) {
        let runs = self.remote.receive(&mut message, &self.own, arrival);
        self.dropped.extend(runs.into_iter().map(|what| what.group));
    }

    fn answer(&mut self, request: &SyncState, now_ms: u64) -> SyncState {
        self.receive(request.clone(), Arrival::Request);
        let run = run_for_response(&self.log, request, &self.own, now_ms);
        SyncState { run, ..self.state(now_ms) }
    }

    /// Syncs until nothing is missing. Returns the number of calls.
    fn sync(&mut self, other: &mut Self, now_ms: u64) -> usize {
        for calls in 1..10 {
            let own_end = self.log.end();
            let response = other.answer(&self.request(now_ms), now_ms);
            self.receive(response, Arrival::Response { began_ms: now_ms });
            if self.remote.is_complete(own_end) {
                return calls;
            }
        }
        panic!("no end");
    }
}

#[test]
fn two_empty_logs_need_one_call() {
    let (mut a, mut b) = (End::new(1, 0), End::new(2, 0));
    assert_eq!(a.sync(&mut b, 10), 1);
}

#[test]
fn one_sync_transfers_both_ways_and_each_entry_once() {
    let (mut a, mut b) = (End::new(1, 0), End::new(2, 0));
    for group in ["a1", "a2", "a3"] {
        a.drop_group(group, 5);
    }
    b.drop_group("b1", 5);
    a.sync(&mut b, 10);
    assert_eq!((a.dropped.join(" "), b.dropped.join(" ")), ("b1".into(), "a1 a2 a3".into()));
    b.sync(&mut a, 11);
    a.drop_group("a4", 12);
    assert_eq!(a.sync(&mut b, 12), 1);
    assert_eq!((a.dropped.join(" "), b.dropped.join(" ")), ("b1".into(), "a1 a2 a3 a4".into()));
}

#[test]
fn a_first_contact_skips_what_is_older_than_the_receiver() {
    let (mut a, mut b) = (End::new(1, 0), End::new(2, 100_000));
    a.drop_group("old", 50_000);
    a.drop_group("in the margin", 99_500);
    a.drop_group("young", 110_000);
    a.sync(&mut b, 120_000);
    assert_eq!(b.dropped, ["in the margin", "young"]);

    // The same in the other direction: the response brings the run.
    let mut c = End::new(3, 100_000);
    c.sync(&mut a, 120_000);
    assert_eq!(c.dropped, ["in the margin", "young"]);
}

#[test]
fn a_restarted_process_has_confirmed_nothing() {
    let (mut a, mut b) = (End::new(1, 0), End::new(2, 0));
    a.drop_group("before", 10);
    a.sync(&mut b, 20);
    let mut restarted = End::new(4, 30_000);
    a.drop_group("after", 31_000);
    let own_end = a.log.end();
    // The request was meant for the old process.
    let response = restarted.answer(&a.request(32_000), 32_000);
    assert!(restarted.dropped.is_empty());
    a.receive(response, Arrival::Response { began_ms: 32_000 });
    assert!(!a.remote.is_complete(own_end));
    a.sync(&mut restarted, 32_000);
    assert_eq!(restarted.dropped, ["after"]);
}

#[test]
fn a_lost_response_or_a_repeated_request_changes_nothing() {
    let (mut a, mut b) = (End::new(1, 0), End::new(2, 0));
    a.sync(&mut b, 10);
    a.drop_group("a1", 20);
    a.sync(&mut b, 21);
    a.drop_group("a2", 22);
    let request = a.request(23);
    b.answer(&request, 23);
    b.answer(&request, 24);
    a.sync(&mut b, 25);
    assert_eq!(b.dropped, ["a1", "a2"]);
}

#[test]
fn a_run_behind_a_gap_is_not_applied_and_the_sender_rewinds() {
    let (mut a, mut b) = (End::new(1, 0), End::new(2, 0));
    a.drop_group("a1", 5);
    a.sync(&mut b, 10);
    a.drop_group("a2", 11);
    // b forgot its position, as if too many other members had called it.
    b.remote = RemoteState::default();
    let own_end = a.log.end();
    let response = b.answer(&a.request(12), 12);
    assert_eq!(b.dropped, ["a1"]);
    a.receive(response, Arrival::Response { began_ms: 12 });
    assert!(!a.remote.is_complete(own_end));
    a.sync(&mut b, 13);
    assert_eq!(b.dropped, ["a1", "a1", "a2"], "everything since its start, again");
}

#[test]
fn a_peer_whose_log_has_grown_is_noticed_from_any_call() {
    let (mut a, mut b) = (End::new(1, 0), End::new(2, 0));
    a.sync(&mut b, 10);
    let position = |number| LogPosition { incarnation: 2, number };
    assert!(!a.remote.observe(&position(0)));
    assert!(a.remote.observe(&position(1)));
    assert!(a.remote.observe(&LogPosition { incarnation: 9, number: 0 }));
}

/// The process that continues the log of `before`, as far as it kept it.
fn continued(before: &End, incarnation: u64, kept: u64, positions: RemoteState) -> End {
    let mut image = before.log.image();
    image.entries.truncate(usize::try_from(kept).expect("a few"));
    image.end = kept;
    let mut next = End::new(incarnation, before.started_ms);
    next.log = InvalidationLog::continued(LogLimits::of_capacity(0), image);
    next.own.predecessors = vec![LogPosition { incarnation: before.own.incarnation, number: kept }];
    next.remote = positions;
    next
}

fn saved(end: &End) -> RemoteState {
    RemoteState::saved(&end.remote.saved_position("a peer"))
}

#[test]
fn a_restored_process_gets_what_followed_its_saved_position() {
    let (mut a, mut b) = (End::new(1, 0), End::new(2, 0));
    a.drop_group("a1", 5);
    b.drop_group("b1", 5);
    a.sync(&mut b, 10);
    let positions = saved(&a);
    b.drop_group("b2", 11);
    let mut restored = continued(&a, 7, 1, positions);
    restored.sync(&mut b, 20);
    assert_eq!(restored.dropped, ["b2"]);
    assert_eq!(b.dropped, ["a1"], "nothing twice");
    restored.drop_group("a2", 21);
    restored.sync(&mut b, 22);
    assert_eq!(b.dropped, ["a1", "a2"]);
}

#[test]
fn a_peer_that_had_applied_more_than_was_kept_misses_nothing_later() {
    let (mut a, mut b) = (End::new(1, 0), End::new(2, 0));
    for group in ["a1", "a2", "not kept"] {
        a.drop_group(group, 5);
    }
    a.sync(&mut b, 10);
    let mut restored = continued(&a, 7, 2, saved(&a));
    // Numbered as the one that was not kept, and the peer calls first.
    restored.drop_group("a3", 20);
    b.sync(&mut restored, 21);
    assert_eq!(b.dropped, ["a1", "a2", "not kept", "a3"]);
    assert!(restored.remote.confirmed() <= restored.log.end());
}

#[test]
fn two_restored_processes_continue_each_others_logs() {
    let (mut a, mut b) = (End::new(1, 0), End::new(2, 0));
    a.drop_group("a1", 5);
    b.drop_group("b1", 5);
    a.sync(&mut b, 10);
    b.sync(&mut a, 10);
    let (of_a, of_b) = (saved(&a), saved(&b));
    a.drop_group("a2", 11);
    let mut next_a = continued(&a, 7, 2, of_a);
    let mut next_b = continued(&b, 8, 1, of_b);
    next_b.sync(&mut next_a, 20);
    assert_eq!((next_a.dropped.len(), next_b.dropped.join(" ")), (0, "a2".into()));
}

#[test]
fn the_log_of_a_process_that_continues_nothing_is_another_one() {
    let (mut a, mut b) = (End::new(1, 0), End::new(2, 0));
    a.drop_group("a1", 5);
    a.sync(&mut b, 10);
    let mut other = End::new(7, 0);
    other.drop_group("o1", 20);
    other.sync(&mut b, 21);
    assert_eq!(b.dropped, ["a1", "o1"]);
}
