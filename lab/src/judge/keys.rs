//! What a reader of a key may see.

use std::fmt;

use super::rules::{Check, EPSILON_MS};
use super::state::{Inner, Judge, Loader, Partial};
use crate::fault::Slot;
use crate::key::{Key, Kind, Stamp};

/// A read with at least this much time has to succeed while nothing is wrong.
const AMPLE_MS: u64 = 1_000;

/// A read in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadTicket {
    pub(crate) key: Key,
    pub(crate) slot: Slot,
    pub(crate) began_ms: u64,
    pub(crate) limit_ms: u64,
    floor: u64,
    missed_floor: u64,
    origin_floor: u64,
}

/// What an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Seen {
    Stamped(Stamp),
    Empty,
    Absent,
    /// Bytes that no load returned.
    Garbage,
}

/// The end of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answered {
    Value {
        seen: Seen,
        stale: bool,
    },
    /// The error's kind.
    Failed(&'static str),
    /// The member died or was frozen.
    Lost,
}

/// An invalidation in flight.
#[derive(Debug, Clone)]
pub(crate) struct InvalidationTicket {
    by: Loader,
    /// Keys with the version that the origin has at the beginning.
    keys: Vec<(Key, u64)>,
    /// Further keys whose flights it detaches.
    detached: Vec<Key>,
    /// Which members were registered at the beginning.
    registered: Vec<bool>,
    number: usize,
}

impl Judge {
    /// The origin has something else for a key. Returns the new version.
    pub(crate) fn written(&self, key: Key, kind: Kind, now_ms: u64) -> u64 {
        let mut inner = self.0.lock();
        let state = inner.key(key);
        state.history.push((now_ms, kind));
        state.latest()
    }

    pub(crate) fn read_began(
        &self,
        key: Key,
        slot: Slot,
        limit_ms: u64,
        now_ms: u64,
    ) -> ReadTicket {
        let mut inner = self.0.lock();
        inner.figures.reads += 1;
        let state = inner.key(key);
        state.asked_ms[slot] = Some(now_ms);
        let (floor, missed_floor) = (state.floors[slot], state.missed_floor);
        let (_, origin_floor) = inner.origins[key.group];
        ReadTicket { key, slot, began_ms: now_ms, limit_ms, floor, missed_floor, origin_floor }
    }

    pub(crate) fn read_ended(&self, ticket: &ReadTicket, answered: Answered, now_ms: u64) {
        let mut inner = self.0.lock();
        match answered {
            Answered::Lost => inner.figures.failed_reads += 1,
            Answered::Failed(kind) => {
                inner.figures.failed_reads += 1;
                if ticket.limit_ms >= AMPLE_MS && inner.is_healthy_since(ticket.began_ms) {
                    let text = format!("{ticket} fails with {kind} while nothing is wrong");
                    inner.violate(Check::Success, now_ms, text);
                }
            }
            Answered::Value { seen: Seen::Garbage, .. } => {
                inner.violate(Check::Value, now_ms, format!("{ticket} gets bytes of no load"));
            }
            Answered::Value { seen: Seen::Stamped(stamp), stale } => {
                inner.judge_stamp(ticket, stamp, stale, now_ms);
            }
            Answered::Value { seen: Seen::Empty, stale } => {
                inner.judge_plain(ticket, Kind::Empty, stale, now_ms);
            }
            Answered::Value { seen: Seen::Absent, stale } => {
                inner.judge_plain(ticket, Kind::Absent, stale, now_ms);
            }
        }
    }

    /// `keys` are dropped, and flights of `detached` besides. `registered`: for each place, whether
    /// the process there is registered.
    pub(crate) fn invalidation_began(
        &self,
        by: Loader,
        keys: &[Key],
        detached: Vec<Key>,
        registered: Vec<bool>,
        now_ms: u64,
    ) -> InvalidationTicket {
        let mut inner = self.0.lock();
        inner.figures.invalidations += 1;
        for key in keys.iter().chain(&detached) {
            let state = inner.key(*key);
            state.invalidated_ms = Some(now_ms);
            state.invalidating += 1;
        }
        let keys = keys.iter().map(|key| (*key, inner.key(*key).latest()));
        let (keys, number): (Vec<_>, _) = (keys.collect(), inner.invalidations.len());
        inner.invalidations.push((keys[0].0.group, now_ms, None));
        InvalidationTicket { by, keys, detached, registered, number }
    }

    /// `reached`: the members that confirmed and their total; `None` if there was no answer. A
    /// process that is not registered is no member: what it holds is bounded once it is one again.
    pub(crate) fn invalidation_ended(
        &self,
        ticket: &InvalidationTicket,
        reached: Option<(u32, u32)>,
        registered: &[bool],
        now_ms: u64,
    ) {
        let mut inner = self.0.lock();
        inner.invalidations[ticket.number].2 = Some(now_ms);
        let everywhere = reached.is_some_and(|(reached, total)| reached == total);
        if !everywhere {
            inner.figures.partial_invalidations += 1;
        }
        let members: Vec<bool> = ticket
            .registered
            .iter()
            .zip(registered)
            .map(|(before, after)| *before && *after)
            .collect();
        let keys = ticket.keys.iter().copied();
        // Version 0 bounds nothing.
        let detached = ticket.detached.iter().map(|key| (*key, 0));
        for (key, version) in keys.chain(detached) {
            let state = inner.key(key);
            state.invalidating -= 1;
            state.invalidated_ms = Some(now_ms);
            if everywhere {
                for (floor, _) in
                    state.floors.iter_mut().zip(&members).filter(|(_, is_member)| **is_member)
                {
                    *floor = (*floor).max(version);
                }
            }
            if reached.is_some() && !(everywhere && members.iter().all(|is_member| *is_member)) {
                state.partial.push(Partial { version, by: ticket.by });
            }
        }
    }

    /// The cluster had its time to recover: what partial invalidations missed must be gone. A
    /// process that died may have taken with it what it had not delivered.
    pub(crate) fn recovered(&self) {
        let mut inner = self.0.lock();
        inner.origins.iter_mut().for_each(|(origin, floor)| *floor = *origin);
        let crashed = std::mem::take(&mut inner.crashed);
        for state in inner.keys.iter_mut().flatten() {
            for partial in std::mem::take(&mut state.partial) {
                if !crashed.contains(&partial.by) {
                    state.missed_floor = state.missed_floor.max(partial.version);
                }
            }
        }
    }
}

impl Inner {
    fn judge_stamp(&mut self, ticket: &ReadTicket, stamp: Stamp, stale: bool, now_ms: u64) {
        let key = ticket.key;
        let load = self.key(key).loads.get(stamp.load).copied();
        let Some(load) = load.filter(|_| stamp.key == key) else {
            let text = format!("{ticket} gets the value of {}", stamp.key);
            return self.violate(Check::Value, now_ms, text);
        };
        if stamp.version < ticket.floor {
            let text = format!(
                "{ticket} gets version {} of load {}, after version {} was invalidated everywhere",
                stamp.version, stamp.load, ticket.floor
            );
            self.violate(Check::Invalidation, now_ms, text);
        } else if stamp.version < ticket.missed_floor {
            let text = format!(
                "{ticket} gets version {} of load {}, long after version {} was partly invalidated",
                stamp.version, stamp.load, ticket.missed_floor
            );
            self.violate(Check::MissedInvalidation, now_ms, text);
        }
        if stamp.origin < ticket.origin_floor {
            let (from, now) = (stamp.origin, ticket.origin_floor);
            let text = format!("{ticket} gets a value of origin {from}, long after origin {now}");
            self.violate(Check::Origin, now_ms, text);
        }
        // A load that has not ended for the judge is one whose answer the reader waited for.
        let loaded_ms = load.ended_ms.unwrap_or(now_ms);
        let limit_ms = loaded_ms + self.life_ms(key, Kind::Value, stale);
        if ticket.began_ms > limit_ms {
            let text = format!(
                "{ticket} gets a value {} ms past its life (load {}, stale: {stale})",
                ticket.began_ms - limit_ms,
                stamp.load
            );
            self.violate(Check::Freshness, now_ms, text);
        }
    }

    /// An answer without a stamp must be what some version is that may still be answered.
    fn judge_plain(&mut self, ticket: &ReadTicket, kind: Kind, stale: bool, now_ms: u64) {
        let load_ms = self.longest_load_ms(ticket.key);
        let life_ms = self.life_ms(ticket.key, kind, stale) + load_ms;
        let state = self.key(ticket.key);
        let fits = |version: usize| {
            let replaced_ms = state.replaced_ms(version);
            state.history[version].1 == kind
                && replaced_ms.is_none_or(|at_ms| ticket.began_ms <= at_ms + life_ms)
        };
        let versions = 0..state.history.len();
        let index = |version: u64| usize::try_from(version).expect("a short history");
        let (floor, missed) = (index(ticket.floor), index(ticket.missed_floor));
        if versions.clone().skip(floor.max(missed)).any(&fits) {
            return;
        }
        let (check, why) = if versions.clone().skip(floor).any(&fits) {
            (
                Check::MissedInvalidation,
                format!("long after version {missed} was invalidated in part"),
            )
        } else if versions.take(floor).any(&fits) {
            (Check::Invalidation, format!("after version {floor} was invalidated everywhere"))
        } else if state.history.iter().any(|(_, known)| *known == kind) {
            (Check::Freshness, "past its life".to_owned())
        } else {
            (Check::Value, "which it never was".to_owned())
        };
        self.violate(check, now_ms, format!("{ticket} gets {kind:?}, {why}"));
    }

    /// How long after its load an answer may be given, ms. A copy lives up to the time longer that
    /// the owner's answer was on its way, and a key waits in a batch for the others.
    fn life_ms(&self, key: Key, kind: Kind, stale: bool) -> u64 {
        let contract = &self.plan.groups[key.group].freshness;
        let window_ms = contract.stale_while_revalidate_ms.max(contract.stale_if_error_ms);
        let life_ms = match kind {
            Kind::Absent => contract.negative_ttl_ms,
            Kind::Value | Kind::Empty if stale => contract.ttl_ms + window_ms,
            Kind::Value | Kind::Empty => contract.ttl_ms,
        };
        life_ms + self.plan.longest_delay_ms() + EPSILON_MS
    }

    /// The longest time between the origin's read of a value and its arrival, ms.
    fn longest_load_ms(&self, key: Key) -> u64 {
        self.plan.groups[key.group].timeout_ms
    }
}

impl fmt::Display for ReadTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read of {} at m{}", self.key, self.slot)
    }
}
