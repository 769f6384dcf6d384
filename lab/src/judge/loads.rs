//! What the origin may be asked.

use super::rules::{Check, EPSILON_MS};
use super::state::{Inner, Judge, Load, Loader};
use crate::fault::Fault;
use crate::key::{Key, Kind};

impl Judge {
    /// A load begins. Returns its number among the loads of the key.
    pub(crate) fn load_began(&self, key: Key, loader: Loader, origin: u64, now_ms: u64) -> usize {
        let mut inner = self.0.lock();
        inner.figures.loads += 1;
        let state = inner.key(key);
        let invalidated = |since_ms: u64| {
            state.invalidating > 0 || state.invalidated_ms.is_some_and(|at_ms| at_ms >= since_ms)
        };
        let runs = |load: &&Load| load.ended_ms.is_none();
        let earlier = state.loads.iter().rev().filter(runs);
        // A member asks the new origin while loads of the old one still run.
        let is_same = |load: &&Load| (load.loader, load.origin) == (loader, origin);
        let here = earlier.clone().filter(is_same).find(|load| !invalidated(load.began_ms));
        let elsewhere = earlier.clone().find(|load| !invalidated(load.began_ms)).copied();
        // What a member missed is replayed to it at any time, and detaches its flight.
        let twice = here.is_some() && state.partial.is_empty();
        let last = state.loads.iter().rev().find(|load| load.read.is_some()).copied();
        let needless = last.filter(|load| !invalidated(load.began_ms));
        let number = state.loads.len();
        state.loads.push(Load { loader, origin, began_ms: now_ms, ended_ms: None, read: None });

        if twice {
            let text = format!("m{} loads {key} twice at the same time", loader.slot);
            inner.violate(Check::OneLoadPerMember, now_ms, text);
        }
        if let Some(load) = elsewhere.filter(|load| inner.is_healthy_since(load.began_ms)) {
            let text = format!("m{} loads {key} while m{} loads it", loader.slot, load.loader.slot);
            inner.violate(Check::OneLoad, now_ms, text);
        }
        if let Some(load) = needless.filter(|load| inner.is_healthy_since(load.began_ms)) {
            inner.judge_needless(key, loader, &load, now_ms);
        }
        inner.judge_crash(key, now_ms);
        number
    }

    /// A load ends; `read` is what it read, unless it failed.
    pub(crate) fn load_ended(&self, key: Key, load: usize, read: Option<Kind>, now_ms: u64) {
        let mut inner = self.0.lock();
        let load = &mut inner.key(key).loads[load];
        (load.ended_ms, load.read) = (Some(now_ms), read);
    }
}

impl Inner {
    /// Half of the shortest time for which the result of a load is fresh: an early refresh may load
    /// again towards the end. 0 for a load without a result.
    fn surely_fresh_ms(&self, key: Key, load: &Load) -> u64 {
        let contract = &self.plan.groups[key.group].freshness;
        let life_ms = match load.read {
            Some(Kind::Absent) => contract.negative_ttl_ms,
            Some(Kind::Value | Kind::Empty) => contract.ttl_ms,
            None => 0,
        };
        life_ms * u64::from(100 - contract.jitter_percent) / 200
    }

    /// True if a key of the group was being invalidated at any time in between. The engine may then
    /// have refused the result of a load of another key: keys share slots of the fences.
    fn group_was_invalidated(&self, group: usize, from_ms: u64, to_ms: u64) -> bool {
        self.invalidations.iter().any(|(invalidated, began_ms, ended_ms)| {
            *invalidated == group
                && *began_ms <= to_ms
                && ended_ms.is_none_or(|ended_ms| ended_ms >= from_ms)
        })
    }

    /// A load although an earlier one has brought what is still fresh.
    fn judge_needless(&mut self, key: Key, loader: Loader, earlier: &Load, now_ms: u64) {
        let ended_ms = earlier.ended_ms.unwrap_or(now_ms);
        let refused = self.group_was_invalidated(key.group, earlier.began_ms, ended_ms);
        if now_ms + EPSILON_MS < ended_ms + self.surely_fresh_ms(key, earlier) && !refused {
            let (slot, other, ago_ms) = (loader.slot, earlier.loader.slot, now_ms - ended_ms);
            let text = format!("m{slot} loads {key}, which m{other} loaded {ago_ms} ms ago");
            self.violate(Check::OneLoad, now_ms, text);
        }
    }

    /// A third load while the only fault is that one member has crashed.
    fn judge_crash(&mut self, key: Key, now_ms: u64) {
        let [only] = self.plan.faults.as_slice() else { return };
        let Some(crash_ms) = self.disturbed_ms.filter(|_| self.active == 1) else { return };
        let is_crash = matches!(only.fault, Fault::Crash { .. });
        if !is_crash
            || self.group_was_invalidated(key.group, crash_ms.saturating_sub(2_000), now_ms)
        {
            return;
        }
        let loads = &self.keys[key.group][key.index].loads;
        let counts = |load: &&Load| match (load.ended_ms, load.read) {
            (None, _) => true,
            (Some(ended_ms), None) => ended_ms >= crash_ms,
            (Some(ended_ms), Some(_)) => {
                ended_ms >= crash_ms && now_ms < ended_ms + self.surely_fresh_ms(key, load)
            }
        };
        let count = loads.iter().filter(counts).count();
        if count > 2 {
            let text = format!("{count} loads of {key} while one member is down");
            self.violate(Check::OneLoad, now_ms, text);
        }
    }
}
