//! Pure: which keys share a call, and when the call may begin. The caller passes the time.
//!
//! | A batch | while |
//! | --- | --- |
//! | is open: it takes keys | its call has not begun and it has room |
//! | is full: it only waits | its call has not begun |
//! | is taken: its keys are fixed | its call runs |
//!
//! A key joins only a batch whose call has not begun, because its load must not see what an earlier
//! call read: it may have begun after an invalidation that the call did not see.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::gather::{GATHER_TIME, Gathering};

/// How long keys collect while a call runs. A key that starts when none began lately waits for
/// nothing.
pub(super) const COLLECT_TIME: Duration = Duration::from_millis(1);

/// The batches of one origin. `R` is where the outcome of a key goes.
pub(super) struct Collector<R> {
    max_keys: usize,
    /// Batches whose call has not begun, by number.
    waiting: BTreeMap<u64, Batch<R>>,
    /// The one of them that takes keys.
    open: Option<u64>,
    /// Number of the latest batch.
    last: u64,
    /// The call that began last, while it runs: its number and when it began.
    latest_call: Option<(u64, Instant)>,
}

/// Keys of one call.
pub(super) struct Batch<R> {
    /// At least one: that of the load which leads the batch. Distinct.
    pub(super) keys: Vec<Bytes>,
    /// Where the outcomes of all keys but the first one go.
    pub(super) followers: Vec<R>,
    /// Requests with several keys, at least one of them here.
    gatherings: Vec<Gathering>,
    began: Instant,
}

/// What a key joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Joined {
    /// A new batch with this number, whose call the key's load makes.
    Leads(u64),
    /// The open batch.
    Follows {
        /// The batch is full now.
        is_full: bool,
    },
}

/// What a batch waits for.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing: the call may begin.
    Call,
    /// More keys until this time, or until the latest call ends.
    Collect(Instant),
    /// The other keys of a request until this time.
    Gather(Gathering, Instant),
}

impl<R> Collector<R> {
    /// For at most `max_keys` keys in a call. 0 counts as 1.
    pub(super) fn new(max_keys: usize) -> Self {
        let max_keys = max_keys.max(1);
        Self { max_keys, waiting: BTreeMap::new(), open: None, last: 0, latest_call: None }
    }

    /// Adds a key to the open batch, or opens one.
    pub(super) fn join(
        &mut self,
        key: Bytes,
        gathering: Option<&Gathering>,
        reply: R,
        now: Instant,
    ) -> Joined {
        let open = self.open.and_then(|number| self.waiting.get_mut(&number));
        if let Some(batch) = open.filter(|batch| !batch.keys.contains(&key)) {
            batch.keys.push(key);
            batch.followers.push(reply);
            batch.gather(gathering);
            let is_full = batch.keys.len() >= self.max_keys;
            if is_full {
                self.open = None;
            }
            return Joined::Follows { is_full };
        }
        self.last += 1;
        let mut batch =
            Batch { keys: vec![key], followers: Vec::new(), gatherings: Vec::new(), began: now };
        batch.gather(gathering);
        self.waiting.insert(self.last, batch);
        self.open = (self.max_keys > 1).then_some(self.last);
        Joined::Leads(self.last)
    }

    /// What the batch waits for now.
    pub(super) fn next(&mut self, number: u64, now: Instant) -> Next {
        let Some(batch) = self.waiting.get_mut(&number) else { return Next::Call };
        if batch.keys.len() >= self.max_keys {
            return Next::Call;
        }
        let gathered_by = batch.began + GATHER_TIME;
        batch.gatherings.retain(|gathering| !gathering.is_complete());
        if let Some(gathering) = batch.gatherings.first()
            && now < gathered_by
        {
            return Next::Gather(gathering.clone(), gathered_by);
        }
        match self.latest_call {
            Some((_, began)) if now < began + COLLECT_TIME => Next::Collect(began + COLLECT_TIME),
            _ => Next::Call,
        }
    }

    /// Takes the batch, whose call begins.
    pub(super) fn begin(&mut self, number: u64, now: Instant) -> Option<Batch<R>> {
        self.latest_call = Some((number, now));
        self.take(number)
    }

    /// Takes the batch, if it was not taken before. Its call ended, was refused or is abandoned.
    pub(super) fn end(&mut self, number: u64) -> Option<Batch<R>> {
        if self.latest_call.is_some_and(|(latest, _)| latest == number) {
            self.latest_call = None;
        }
        self.take(number)
    }

    fn take(&mut self, number: u64) -> Option<Batch<R>> {
        if self.open == Some(number) {
            self.open = None;
        }
        self.waiting.remove(&number)
    }
}

impl<R> Batch<R> {
    fn gather(&mut self, gathering: Option<&Gathering>) {
        let Some(gathering) = gathering else { return };
        if !self.gatherings.iter().any(|known| known.is_same(gathering)) {
            self.gatherings.push(gathering.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A collector whose replies are numbers, and its time.
    struct Rig {
        collector: Collector<u32>,
        now: Instant,
    }

    impl Rig {
        fn new(max_keys: usize) -> Self {
            Self { collector: Collector::new(max_keys), now: Instant::now() }
        }

        fn join(&mut self, key: &'static str, reply: u32) -> Joined {
            self.collector.join(Bytes::from_static(key.as_bytes()), None, reply, self.now)
        }

        fn begin(&mut self, number: u64) -> (Vec<Bytes>, Vec<u32>) {
            let batch = self.collector.begin(number, self.now).expect("waits");
            (batch.keys, batch.followers)
        }

        /// How long the batch collects still, ms; `None` if its call may begin.
        fn collects_ms(&mut self, number: u64) -> Option<u128> {
            match self.collector.next(number, self.now) {
                Next::Call => None,
                Next::Collect(until) => Some((until - self.now).as_millis()),
                Next::Gather(..) => panic!("gathers"),
            }
        }
    }

    #[test]
    fn a_lone_key_waits_for_nothing_and_keys_of_a_running_call_collect() {
        let mut rig = Rig::new(3);
        assert_eq!(rig.join("a", 0), Joined::Leads(1));
        assert_eq!(rig.collects_ms(1), None);
        assert_eq!(rig.begin(1), (vec!["a".into()], vec![]));
        assert_eq!(rig.join("b", 1), Joined::Leads(2), "the first call has begun");
        assert_eq!(rig.join("c", 2), Joined::Follows { is_full: false });
        assert_eq!(rig.collects_ms(2), Some(1));
        rig.now += COLLECT_TIME;
        assert_eq!(rig.collects_ms(2), None, "although the first call still runs");
        assert_eq!(rig.begin(2), (vec!["b".into(), "c".into()], vec![2]));
    }

    #[test]
    fn the_end_of_the_latest_call_ends_the_collection() {
        let mut rig = Rig::new(3);
        rig.join("a", 0);
        rig.begin(1);
        rig.join("b", 1);
        rig.begin(2);
        rig.join("c", 2);
        assert!(rig.collector.end(1).is_none());
        assert_eq!(rig.collects_ms(3), Some(1), "the second call began last");
        assert!(rig.collector.end(2).is_none());
        assert_eq!(rig.collects_ms(3), None);
    }

    #[test]
    fn a_full_batch_waits_for_nothing_and_takes_no_key() {
        let mut rig = Rig::new(2);
        rig.join("a", 0);
        rig.begin(1);
        assert_eq!(rig.join("b", 1), Joined::Leads(2));
        assert_eq!(rig.join("c", 2), Joined::Follows { is_full: true });
        assert_eq!(rig.collects_ms(2), None);
        assert_eq!(rig.join("d", 3), Joined::Leads(3));
        assert_eq!(rig.begin(2).0.len(), 2);
        let mut single = Rig::new(0);
        assert_eq!(
            (single.join("a", 0), single.join("b", 1)),
            (Joined::Leads(1), Joined::Leads(2))
        );
    }

    #[test]
    fn a_key_is_in_a_batch_once() {
        let mut rig = Rig::new(10);
        assert_eq!(rig.join("a", 0), Joined::Leads(1));
        assert_eq!(rig.join("a", 1), Joined::Leads(2), "a newer load of the same key");
        assert_eq!(rig.join("b", 2), Joined::Follows { is_full: false });
        assert_eq!(rig.begin(1).0, ["a"]);
        assert_eq!(rig.begin(2).0, ["a", "b"]);
    }

    #[test]
    fn an_abandoned_batch_takes_no_further_key() {
        let mut rig = Rig::new(10);
        rig.join("a", 0);
        rig.join("b", 7);
        assert_eq!(rig.collector.end(1).expect("not taken").followers, [7]);
        assert_eq!(rig.join("c", 1), Joined::Leads(2));
        assert_eq!(rig.collects_ms(1), None, "of a batch that is gone");
    }

    #[test]
    fn a_batch_waits_for_the_other_keys_of_a_request_but_not_for_ever() {
        let mut rig = Rig::new(10);
        let gathering = Gathering::new();
        let on_their_way = (gathering.key(), gathering.key());
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        rig.collector.join(a, Some(&gathering), 0, rig.now);
        assert!(matches!(rig.collector.next(1, rig.now), Next::Gather(..)));
        rig.collector.join(b, Some(&gathering), 1, rig.now);
        drop(on_their_way.0);
        let Next::Gather(waits_for, until) = rig.collector.next(1, rig.now) else { panic!() };
        assert!(waits_for.is_same(&gathering) && until == rig.now + GATHER_TIME);
        assert!(matches!(rig.collector.next(1, until), Next::Call), "a stalled request");
        drop(on_their_way.1);
        assert!(matches!(rig.collector.next(1, rig.now), Next::Call));
    }
}
