//! What the judge knows: the truth, every call, and which faults are in force.

use larder_proto::v1::FetchRequest;
use parking_lot::Mutex;

use super::rules::{Check, Violation};
use crate::fault::Slot;
use crate::key::{Key, Kind};
use crate::plan::Plan;

/// Longest time for which a forward can outlive the read that started it, ms: two owners, each with
/// the longest load.
const FORWARD_MS: u64 = 15_000;

/// The process that loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Loader {
    pub(crate) slot: Slot,
    /// Counts the processes of a slot.
    pub(crate) incarnation: u32,
}

pub(crate) struct Judge(pub(super) Mutex<Inner>);

pub(super) struct Inner {
    pub(super) plan: Plan,
    pub(super) keys: Vec<Vec<KeyState>>,
    /// Group, beginning and end of each invalidation, ms.
    pub(super) invalidations: Vec<(usize, u64, Option<u64>)>,
    /// Number of each group's origin, and of the oldest one whose values a read may return.
    pub(super) origins: Vec<(u64, u64)>,
    pub(super) violations: Vec<Violation>,
    /// Faults in force.
    pub(super) active: usize,
    /// When the last fault began or ended.
    pub(super) disturbed_ms: Option<u64>,
    /// When a process was frozen last.
    pub(super) frozen_ms: Vec<Option<u64>>,
    /// Processes that ended without delivering what they owed.
    pub(super) crashed: Vec<Loader>,
    pub(super) figures: Figures,
}

/// What happened, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) reads: u64,
    pub(crate) failed_reads: u64,
    pub(crate) loads: u64,
    pub(crate) invalidations: u64,
    pub(crate) partial_invalidations: u64,
}

/// One key's truth and its promises.
pub(super) struct KeyState {
    /// Versions in order: when each began, and what the origin has for the key from then on.
    pub(super) history: Vec<(u64, Kind)>,
    /// The oldest version that a read at each member may answer from now on. Versions count from 0.
    pub(super) floors: Vec<u64>,
    /// The same for every member, from what did not reach it, after the cluster had its time to
    /// recover.
    pub(super) missed_floor: u64,
    /// Invalidations that did not reach every running process.
    pub(super) partial: Vec<Partial>,
    pub(super) loads: Vec<Load>,
    /// When the latest invalidation began, ms.
    pub(super) invalidated_ms: Option<u64>,
    /// Invalidations that run now.
    pub(super) invalidating: usize,
    /// When an application last asked each member for the key, ms.
    pub(super) asked_ms: Vec<Option<u64>>,
}

pub(super) struct Partial {
    pub(super) version: u64,
    pub(super) by: Loader,
}

/// One call of the origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) loader: Loader,
    /// Number of the group's origin.
    pub(super) origin: u64,
    pub(super) began_ms: u64,
    pub(super) ended_ms: Option<u64>,
    /// What it read, once it has ended well.
    pub(super) read: Option<Kind>,
}

impl KeyState {
    pub(super) fn new(members: usize) -> Self {
        Self {
            history: vec![(0, Kind::Value)],
            floors: vec![0; members],
            missed_floor: 0,
            partial: Vec::new(),
            loads: Vec::new(),
            invalidated_ms: None,
            invalidating: 0,
            asked_ms: vec![None; members],
        }
    }

    pub(super) fn truth(&self) -> (u64, Kind) {
        let (_, kind) = self.history.last().expect("it starts with one");
        (self.latest(), *kind)
    }

    pub(super) fn latest(&self) -> u64 {
        self.history.len() as u64 - 1
    }

    /// Until when a version was the truth, ms.
    pub(super) fn replaced_ms(&self, version: usize) -> Option<u64> {
        self.history.get(version + 1).map(|(began_ms, _)| *began_ms)
    }
}

impl Judge {
    pub(crate) fn new(plan: &Plan) -> Self {
        let keys = plan
            .groups
            .iter()
            .map(|group| (0..group.keys).map(|_| KeyState::new(plan.members)).collect());
        Self(Mutex::new(Inner {
            keys: keys.collect(),
            invalidations: Vec::new(),
            origins: vec![(0, 0); plan.groups.len()],
            violations: Vec::new(),
            active: 0,
            disturbed_ms: None,
            frozen_ms: vec![None; plan.members],
            crashed: Vec::new(),
            figures: Figures::default(),
            plan: plan.clone(),
        }))
    }

    pub(crate) fn violate(&self, check: Check, now_ms: u64, text: impl Into<String>) {
        self.0.lock().violate(check, now_ms, text.into());
    }

    pub(crate) fn violations(&self) -> Vec<Violation> {
        self.0.lock().violations.clone()
    }

    pub(crate) fn figures(&self) -> Figures {
        self.0.lock().figures
    }

    pub(crate) fn fault_began(&self, now_ms: u64) {
        let mut inner = self.0.lock();
        inner.active += 1;
        inner.disturbed_ms = Some(now_ms);
    }

    pub(crate) fn fault_ended(&self, now_ms: u64) {
        let mut inner = self.0.lock();
        inner.active -= 1;
        inner.disturbed_ms = Some(now_ms);
    }

    /// The number of a group's origin.
    pub(crate) fn origin(&self, group: usize) -> u64 {
        self.0.lock().origins[group].0
    }

    pub(crate) fn origin_changed(&self, group: usize) {
        self.0.lock().origins[group].0 += 1;
    }

    pub(crate) fn frozen(&self, slot: Slot, now_ms: u64) {
        self.0.lock().frozen_ms[slot] = Some(now_ms);
    }

    pub(crate) fn was_frozen_since(&self, slot: Slot, since_ms: u64) -> bool {
        self.0.lock().frozen_ms[slot].is_some_and(|at_ms| at_ms >= since_ms)
    }

    pub(crate) fn crashed(&self, process: Loader) {
        self.0.lock().crashed.push(process);
    }

    /// A member sends keys to another one. Only a read of an application may cause that.
    pub(crate) fn fetch_sent(&self, slot: Slot, request: &FetchRequest, now_ms: u64) {
        let mut inner = self.0.lock();
        for key in &request.keys {
            let group = inner.plan.groups.iter().position(|group| group.name == key.group);
            let index = std::str::from_utf8(&key.key[1..]).ok().and_then(|text| text.parse().ok());
            let (Some(group), Some(index)) = (group, index) else { continue };
            let key = Key { group, index };
            let asked_ms = inner.keys[group][index].asked_ms[slot];
            if asked_ms.is_none_or(|asked_ms| asked_ms + FORWARD_MS < now_ms) {
                let text = format!("m{slot} forwards {key}, which no application asked of it");
                inner.violate(Check::Hop, now_ms, text);
            }
        }
    }

    pub(crate) fn truth(&self, key: Key) -> (u64, Kind) {
        self.0.lock().keys[key.group][key.index].truth()
    }
}

impl Inner {
    pub(super) fn violate(&mut self, check: Check, at_ms: u64, text: String) {
        /// Enough to see a pattern.
        const MOST: usize = 20;
        if self.violations.len() < MOST {
            self.violations.push(Violation { at_ms, check, text });
        }
    }

    /// True if nothing was wrong from `since_ms` on, and the cluster had time to recover before.
    pub(super) fn is_healthy_since(&self, since_ms: u64) -> bool {
        let recovery_ms = self.plan.recovery_ms();
        self.active == 0 && self.disturbed_ms.is_none_or(|at_ms| at_ms + recovery_ms <= since_ms)
    }

    pub(super) fn key(&mut self, key: Key) -> &mut KeyState {
        &mut self.keys[key.group][key.index]
    }
}

impl Plan {
    /// Time after the last fault in which the cluster becomes whole: a lease and two seconds.
    pub(crate) fn recovery_ms(&self) -> u64 {
        self.lease_s * 1_000 + 2_000
    }
}
