//! Judges a world while it runs: what readers may see, what the origin may be asked, and what may
//! travel.
//!
//! The judge knows the truth and every call; the members know nothing of it. Each rule is a check
//! with a name ([`Check`]). A rule that faults weaken says so where it is applied. Start at
//! [`Judge::read_ended`].

mod keys;
mod loads;

use larder_proto::v1::FetchRequest;
use parking_lot::Mutex;

use crate::fault::Slot;
use crate::key::{Key, Kind};
use crate::plan::Plan;

use keys::KeyState;
pub(crate) use keys::{Answered, Seen};

/// Tolerance of every time limit: timers have whole milliseconds, and a hop or two lies in between.
pub(crate) const EPSILON_MS: u64 = 25;
/// Longest time for which a forward can outlive the read that started it, ms: two owners, each with
/// the longest load.
const FORWARD_MS: u64 = 15_000;
/// A read with at least this much time has to succeed while nothing is wrong.
const AMPLE_MS: u64 = 1_000;

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Check {
    /// C5, C4: after an invalidation that reached N of N, no member answers with an older value.
    Invalidation,
    /// C5: what a partial invalidation missed is dropped within a lease after the faults have
    /// ended.
    MissedInvalidation,
    /// C8, C9, C10: no answer past the life that its contract gives it.
    Freshness,
    /// C7: absent, empty and a value are told apart, and no key answers for another.
    Value,
    /// C2: every request ends by its own deadline.
    Hang,
    /// A read succeeds while nothing is wrong.
    Success,
    /// C1: one load per cold key in the whole cluster while nothing is wrong.
    OneLoad,
    /// Invariant 2: one load per key and member at a time, whatever is wrong.
    OneLoadPerMember,
    /// Invariant 1: a forwarded request is never forwarded again.
    Hop,
    /// R4: after the faults have ended, every ring is whole within a lease and two seconds.
    Convergence,
    /// C3: no task, flight or waiting request is left when the traffic has ended.
    Leak,
    /// Engines and queues stay within their bounds.
    Memory,
    /// Nothing panics.
    Panic,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) at_ms: u64,
    pub(crate) check: Check,
    pub(crate) text: String,
}

/// The process that loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Loader {
    pub(crate) slot: Slot,
    /// Counts the processes of a slot.
    pub(crate) incarnation: u32,
}

pub(crate) struct Judge(Mutex<Inner>);

struct Inner {
    plan: Plan,
    keys: Vec<Vec<KeyState>>,
    /// Group, beginning and end of each invalidation, ms.
    invalidations: Vec<(usize, u64, Option<u64>)>,
    violations: Vec<Violation>,
    /// Faults in force.
    active: usize,
    /// When the last fault began or ended.
    disturbed_ms: Option<u64>,
    /// When a process was frozen last.
    frozen_ms: Vec<Option<u64>>,
    /// Processes that ended without delivering what they owed.
    crashed: Vec<Loader>,
    figures: Figures,
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

impl Judge {
    pub(crate) fn new(plan: &Plan) -> Self {
        let keys = plan
            .groups
            .iter()
            .map(|group| (0..group.keys).map(|_| KeyState::new(plan.members)).collect());
        Self(Mutex::new(Inner {
            keys: keys.collect(),
            invalidations: Vec::new(),
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
    fn violate(&mut self, check: Check, at_ms: u64, text: String) {
        /// Enough to see a pattern.
        const MOST: usize = 20;
        if self.violations.len() < MOST {
            self.violations.push(Violation { at_ms, check, text });
        }
    }

    /// True if nothing was wrong from `since_ms` on, and the cluster had time to recover before.
    fn is_healthy_since(&self, since_ms: u64) -> bool {
        let recovery_ms = self.plan.recovery_ms();
        self.active == 0 && self.disturbed_ms.is_none_or(|at_ms| at_ms + recovery_ms <= since_ms)
    }

    fn key(&mut self, key: Key) -> &mut KeyState {
        &mut self.keys[key.group][key.index]
    }
}

impl Plan {
    /// Time after the last fault in which the cluster becomes whole: a lease and two seconds.
    pub(crate) fn recovery_ms(&self) -> u64 {
        self.lease_s * 1_000 + 2_000
    }
}

impl Check {
    /// As in the table of promises.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Invalidation => "invalidation",
            Self::MissedInvalidation => "missed invalidation",
            Self::Freshness => "freshness",
            Self::Value => "value",
            Self::Hang => "hang",
            Self::Success => "success",
            Self::OneLoad => "one load",
            Self::OneLoadPerMember => "one load per member",
            Self::Hop => "hop",
            Self::Convergence => "convergence",
            Self::Leak => "leak",
            Self::Memory => "memory",
            Self::Panic => "panic",
        }
    }
}
