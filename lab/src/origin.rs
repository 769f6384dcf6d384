//! The origin: the truth with its versions, and loads that take time, fail, and are counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_node::origin::{self, Loaded};
use larder_runtime::random::Random;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::fault::Fault;
use crate::judge::{Judge, Loader};
use crate::key::{Key, Kind, Stamp};
use crate::timeline::Timeline;

pub(crate) struct Origin {
    random: Random,
    delay_ms: (u64, u64),
    faults: Mutex<Vec<Fault>>,
    timeline: Arc<Timeline>,
    judge: Arc<Judge>,
}

impl Origin {
    pub(crate) fn new(
        random: Random,
        delay_ms: (u64, u64),
        timeline: Arc<Timeline>,
        judge: Arc<Judge>,
    ) -> Arc<Self> {
        Arc::new(Self { random, delay_ms, faults: Mutex::default(), timeline, judge })
    }

    pub(crate) fn begin(&self, fault: Fault) {
        self.faults.lock().push(fault);
    }

    pub(crate) fn end(&self, fault: Fault) {
        self.faults.lock().retain(|active| *active != fault);
    }

    /// Changes what the origin has for a key. Returns the new version.
    pub(crate) fn write(&self, key: Key) -> u64 {
        let kind = match self.random.below(8) {
            0 => Kind::Absent,
            1 => Kind::Empty,
            _ => Kind::Value,
        };
        let version = self.judge.written(key, kind, self.timeline.now_ms());
        self.timeline.add(&("write", key, version, kind), || {
            format!("origin  {key} becomes version {version}, {kind:?}")
        });
        version
    }

    /// One load. The value is read at a random time within it.
    pub(crate) async fn load(
        self: Arc<Self>,
        loader: Loader,
        group: usize,
        key: Bytes,
    ) -> Result<Loaded, origin::Error> {
        let index = std::str::from_utf8(&key).ok().and_then(|text| text[1..].parse().ok());
        let key = Key { group, index: index.expect("a key of this world") };
        let load = self.judge.load_began(key, loader, self.timeline.now_ms());
        self.timeline.add(&("load", key, loader.slot), || {
            format!("m{}      loads {key} (load {load})", loader.slot)
        });
        let (before_ms, after_ms) = self.times();
        sleep(Duration::from_millis(before_ms)).await;
        let (version, kind) = self.judge.truth(key);
        sleep(Duration::from_millis(after_ms)).await;
        let failed = self.fails();
        self.judge.load_ended(key, load, (!failed).then_some(kind), self.timeline.now_ms());
        self.timeline.add(&("loaded", key, load, version, failed), || {
            let what = if failed {
                "failed".to_owned()
            } else {
                format!("got version {version}, {kind:?}")
            };
            format!("origin  load {load} of {key} {what}")
        });
        if failed {
            return Err(origin::Error::other("planned"));
        }
        Ok(match kind {
            Kind::Absent => Loaded::Absent,
            Kind::Empty => Loaded::Value(Bytes::new()),
            Kind::Value => Loaded::Value(Stamp { key, version, load }.to_value()),
        })
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

    fn fails(&self) -> bool {
        let percents: Vec<u64> = self
            .faults
            .lock()
            .iter()
            .filter_map(|fault| match fault {
                Fault::FailingOrigin { percent } => Some(*percent),
                _ => None,
            })
            .collect();
        percents.into_iter().any(|percent| self.random.below(100) < percent)
    }
}
