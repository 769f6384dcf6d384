//! What the origin may be asked.

use super::{Check, EPSILON_MS, Judge, Loader};
use crate::key::{Key, Kind};

/// One call of the origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    loader: Loader,
    began_ms: u64,
    pub(super) ended_ms: Option<u64>,
    /// What it read, once it has ended well.
    read: Option<Kind>,
}

impl Judge {
    /// A load begins. Returns its number among the loads of the key.
    pub(crate) fn load_began(&self, key: Key, loader: Loader, now_ms: u64) -> usize {
        let mut inner = self.0.lock();
        inner.figures.loads += 1;
        let state = inner.key(key);
        let invalidated = |since_ms: u64| {
            state.invalidating > 0 || state.invalidated_ms.is_some_and(|at_ms| at_ms >= since_ms)
        };
        let runs = |load: &&Load| load.ended_ms.is_none();
        let earlier = state.loads.iter().rev().filter(runs);
        let here =
            earlier.clone().find(|load| load.loader == loader && !invalidated(load.began_ms));
        let elsewhere = earlier.clone().find(|load| !invalidated(load.began_ms)).copied();
        // What a member missed is replayed to it at any time, and detaches its flight.
        let twice = here.is_some() && state.partial.is_empty();
        let last = state.loads.iter().rev().find(|load| load.read.is_some()).copied();
        let needless = last.filter(|load| !invalidated(load.began_ms));
        let number = state.loads.len();
        state.loads.push(Load { loader, began_ms: now_ms, ended_ms: None, read: None });

        if twice {
            let text = format!("m{} loads {key} twice at the same time", loader.slot);
            inner.violate(Check::OneLoadPerMember, now_ms, text);
        }
        if let Some(load) = elsewhere.filter(|load| inner.is_healthy_since(load.began_ms)) {
            let text = format!("m{} loads {key} while m{} loads it", loader.slot, load.loader.slot);
            inner.violate(Check::OneLoad, now_ms, text);
        }
        if let Some(load) = needless.filter(|load| inner.is_healthy_since(load.began_ms)) {
            // An early refresh may load again towards the end of the life.
            let contract = &inner.plan.groups[key.group].freshness;
            let life_ms = match load.read {
                Some(Kind::Absent) => contract.negative_ttl_ms,
                _ => contract.ttl_ms,
            };
            let shortest_ms = life_ms * u64::from(100 - contract.jitter_percent) / 200;
            let fresh_until_ms = load.ended_ms.unwrap_or(0) + shortest_ms;
            // The engine may refuse a load's result when any key of its group was invalidated meanwhile: keys share
            // slots of the fences.
            let load_ended_ms = load.ended_ms.unwrap_or(now_ms);
            let refused = inner.invalidations.iter().any(|(group, began_ms, ended_ms)| {
                *group == key.group
                    && *began_ms <= load_ended_ms
                    && ended_ms.is_none_or(|ended_ms| ended_ms >= load.began_ms)
            });
            if now_ms + EPSILON_MS < fresh_until_ms && !refused {
                let (slot, other) = (loader.slot, load.loader.slot);
                let text = format!(
                    "m{slot} loads {key}, which m{other} loaded {} ms ago",
                    now_ms - load.ended_ms.unwrap_or(now_ms)
                );
                inner.violate(Check::OneLoad, now_ms, text);
            }
        }
        number
    }

    /// A load ends; `read` is what it read, unless it failed.
    pub(crate) fn load_ended(&self, key: Key, load: usize, read: Option<Kind>, now_ms: u64) {
        let mut inner = self.0.lock();
        let load = &mut inner.key(key).loads[load];
        (load.ended_ms, load.read) = (Some(now_ms), read);
    }
}
