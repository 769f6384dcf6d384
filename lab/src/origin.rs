//! The origin: the truth with its versions, and loads that take time, fail, and are counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_node::origin::{self, Loaded};
use larder_runtime::random::Random;
use tokio::time::sleep;

use crate::fault::{ActiveFaults, Fault};
use crate::judge::{Judge, Loader};
use crate::key::{Key, Kind, Stamp, tag_name};
use crate::plan::Plan;
use crate::timeline::Timeline;

pub(crate) struct Origin {
    random: Random,
    delay_ms: (u64, u64),
    /// The groups whose values have tags.
    tagged: Vec<bool>,
    pub(crate) faults: ActiveFaults,
    timeline: Arc<Timeline>,
    judge: Arc<Judge>,
}

impl Origin {
    pub(crate) fn new(
        random: Random,
        plan: &Plan,
        timeline: Arc<Timeline>,
        judge: Arc<Judge>,
    ) -> Arc<Self> {
        let tagged = plan.groups.iter().map(|group| group.is_tagged).collect();
        let (delay_ms, faults) = (plan.origin_ms, ActiveFaults::default());
        Arc::new(Self { random, delay_ms, tagged, faults, timeline, judge })
    }

    /// Changes what the origin has for a key. Returns the new version.
    pub(crate) fn write(&self, key: Key) -> u64 {
        let kind = match self.random.below(8) {
            0 if !self.tagged[key.group] => Kind::Absent,
            1 => Kind::Empty,
            _ => Kind::Value,
        };
        let version = self.judge.written(key, kind, self.timeline.now_ms());
        self.timeline.add(&("write", key, version, kind), || {
            format!("origin  {key} becomes version {version}, {kind:?}")
        });
        version
    }

    /// One load from origin number `origin` of the group. The value is read at a random time within
    /// it.
    pub(crate) async fn load(
        self: Arc<Self>,
        loader: Loader,
        (group, origin): (usize, u64),
        key: Bytes,
    ) -> Result<Loaded, origin::Error> {
        let index = std::str::from_utf8(&key).ok().and_then(|text| text[1..].parse().ok());
        let key = Key { group, index: index.expect("a key of this world") };
        let load = self.judge.load_began(key, loader, origin, self.timeline.now_ms());
        self.timeline.add(&("load", key, loader.slot, origin), || {
            format!("m{}      loads {key} (load {load}, origin {origin})", loader.slot)
        });
        let mut running = RunningLoad { origin: &self, key, load, read: None };
        let (before_ms, after_ms) = self.times();
        sleep(Duration::from_millis(before_ms)).await;
        let (version, kind) = self.judge.truth(key);
        sleep(Duration::from_millis(after_ms)).await;
        let failure = self.failure();
        running.read = failure.is_none().then_some(kind);
        drop(running);
        self.timeline.add(&("loaded", key, load, version, failure), || match failure {
            Some(failure) => format!("origin  load {load} of {key}: {failure:?}"),
            None => format!("origin  load {load} of {key} got version {version}, {kind:?}"),
        });
        match (failure, kind) {
            (Some(Failure::Error), _) => Err(origin::Error::other("planned")),
            // Without the hook, which records the panics that nobody planned.
            (Some(Failure::Panic), _) => std::panic::resume_unwind(Box::new("planned")),
            (None, Kind::Absent) => Ok(Loaded::Absent),
            (None, Kind::Empty) => Ok(self.loaded(key, Bytes::new())),
            (None, Kind::Value) => {
                Ok(self.loaded(key, Stamp { key, version, load, origin }.to_value()))
            }
        }
    }

    fn loaded(&self, key: Key, value: Bytes) -> Loaded {
        if self.tagged[key.group] {
            Loaded::Tagged { value, tags: vec![tag_name(key.tag())] }
        } else {
            Loaded::Value(value)
        }
    }

    /// Time before and after the read of the value.
    fn times(&self) -> (u64, u64) {
        let (least, most) = self.delay_ms;
        let slower = self
            .faults
            .lock()
            .iter()
            .map(|fault| match fault {
                Fault::SlowOrigin { ms } => *ms,
                _ => 0,
            })
            .sum::<u64>();
        let whole = least + self.random.below(most - least + 1) + slower;
        let before = self.random.below(whole + 1);
        (before, whole - before)
    }

    fn failure(&self) -> Option<Failure> {
        let faults = self.faults.lock();
        let percent = faults.iter().filter_map(|fault| match fault {
            Fault::FailingOrigin { percent } => Some(*percent),
            _ => None,
        });
        let percent = percent.max()?;
        if self.random.below(100) >= percent {
            return None;
        }
        Some(if self.random.below(4) == 0 { Failure::Panic } else { Failure::Error })
    }
}

/// How a load fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Failure {
    Error,
    Panic,
}

/// Reports the end of a load, also of one that its bulkhead or the end of its process drops.
struct RunningLoad<'o> {
    origin: &'o Origin,
    key: Key,
    load: usize,
    read: Option<Kind>,
}

impl Drop for RunningLoad<'_> {
    fn drop(&mut self) {
        let Self { origin, key, load, read } = self;
        origin.judge.load_ended(*key, *load, *read, origin.timeline.now_ms());
    }
}
