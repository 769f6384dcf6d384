//! Owns the question "what would this group answer with other memory, or under another policy",
//! told live. It never changes what the group holds. Start at [`Watch::samples`], then
//! `curve/ensemble.rs`.
//!
//! Keys are sampled by hash (SHARDS: Waldspurger, Park, Garthwaite, Ahmad, "Efficient MRC
//! Construction with SHARDS", FAST 2015), and the sampled part of the traffic runs past caches in
//! miniature, without keys and values, one for each size and each policy (Waldspurger, Saemundsson,
//! Ahmad, Park, "Cache Modeling and Optimization using Miniature Simulations", ATC 2017): the real
//! `Store` with the real policies, so that a new policy is predicted from the day it exists.
//!
//! # What it costs
//! A read of a key that is not sampled: one load and one compare. A read of one that is writes
//! [`Access`] into a bounded queue; the miniatures work it off in the sweep, at most
//! [`MAX_PENDING`] accesses a time. The part of the keys that is sampled falls until that and
//! [`MEMORY_BYTES`] suffice, whatever the number of keys and reads, and rises again in calm times.
//!
//! # Locks
//! `pending` is held for one push, `ensemble` for one round of work; neither while a shard's lock is
//! held, and `pending` alone may be taken under `ensemble`.

mod ensemble;
mod shadow;

use crate::curve::ensemble::Ensemble;
pub(crate) use crate::curve::ensemble::Present;
use crate::entry::Entry;
use crate::policy::PolicyKind;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::tick::Tick;

/// Sizes predicted, in percent of the memory that the group may use now.
pub const CURVE_PERCENTS: [u32; 5] = [25, 50, 100, 200, 400];

/// Reads of sampled keys before anything is said.
const ENOUGH: u64 = 1_000;

/// Accesses that wait for the next sweep at most: 48 KiB.
const MAX_PENDING: usize = 2_048;

/// Bytes that all miniatures of a group use at most. With what their slabs round up (twelve chunks
/// of slots), their timer wheels and the queue of accesses, a group's prediction takes 512 KiB.
const MEMORY_BYTES: usize = 320 << 10;

/// Hit ratios of one group, as they are and as they would be. They speak of the last minutes.
#[derive(Clone, PartialEq, Debug)]
pub struct Curve {
    /// The policy in force.
    pub policy: PolicyKind,
    /// Bytes that the group may use now: "100 percent".
    pub limit_bytes: u64,
    /// Reads that the ratios speak of, older ones counting less. The weight for a mean of several
    /// members' curves.
    pub requests: u64,
    /// Of these, reads of sampled keys.
    pub sampled: u64,
    /// How many it takes.
    pub needed: u64,
    /// Hits among all reads in the same time, 0 to 1.
    pub actual: f64,
    /// Predicted hit ratios of the policy in force, for each of [`CURVE_PERCENTS`].
    pub sizes: [f64; CURVE_PERCENTS.len()],
    /// Predicted hit ratios of every policy at the present size, in the order of
    /// [`PolicyKind::ALL`].
    pub policies: Vec<(PolicyKind, f64)>,
    /// Bytes that the prediction itself takes.
    pub memory_bytes: u64,
}

/// Too few reads were seen since the group, or its policy, is new.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not enough requests yet: {sampled} of {needed} sampled")]
pub struct TooYoung {
    /// Reads of sampled keys so far.
    pub sampled: u64,
    /// How many it takes.
    pub needed: u64,
}

/// What the hot path knows of a sampled key's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    weight: u32,
    life_ms: u32,
    is_absent: bool,
}

/// One thing that happened to a sampled key.
#[derive(Clone, Copy, Debug)]
struct Access {
    now: Tick,
    hash: u32,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// A read, and the entry that answered it.
    Hit(Outline),
    /// A read that found nothing, or nothing that lives.
    Miss,
    /// A load that filled a gap.
    Fill(Outline),
    /// A load that replaced what was there.
    Refresh(Outline),
    Invalidate,
}

/// A group's side of the prediction.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Keys whose hash is less than this are sampled; 0: the prediction is off. On a cache line of
    /// its own: every read loads it, and it seldom changes.
    below: Below,
    pending: Mutex<Vec<Access>>,
    ensemble: Mutex<Ensemble>,
}

#[derive(Debug)]
#[repr(align(128))]
struct Below(AtomicU32);

impl Outline {
    pub(crate) fn of(entry: &Entry) -> Outline {
        let life_ms = entry.life_ms();
        Outline { weight: entry.weight, life_ms, is_absent: entry.is_absent() }
    }
}

impl Watch {
    pub(crate) fn new(policy: PolicyKind, on: bool) -> Watch {
        let (below, queue) = if on { (u32::MAX, MAX_PENDING) } else { (0, 0) };
        Watch {
            below: Below(AtomicU32::new(below)),
            pending: Mutex::new(Vec::with_capacity(queue)),
            ensemble: Mutex::new(Ensemble::new(policy)),
        }
    }

    /// True if the key's accesses are to be told. Everything else here is off the common path.
    #[inline]
    pub(crate) fn samples(&self, hash: u32) -> bool {
        hash < self.below.0.load(Ordering::Relaxed)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.below.0.load(Ordering::Relaxed) > 0
    }

    /// A read, and the entry that answered it.
    #[cold]
    pub(crate) fn read(&self, hash: u32, found: Option<Outline>, now: Tick) {
        self.push(Access { now, hash, what: found.map_or(What::Miss, What::Hit) });
    }

    /// An entry was stored; `replaced` if another one of its key was there.
    #[cold]
    pub(crate) fn stored(&self, hash: u32, entry: Outline, replaced: bool, now: Tick) {
        let what = if replaced { What::Refresh(entry) } else { What::Fill(entry) };
        self.push(Access { now, hash, what });
    }

    /// A key was invalidated.
    #[cold]
    pub(crate) fn invalidated(&self, hash: u32) {
        self.push(Access { now: Tick::ZERO, hash, what: What::Invalidate });
    }

    /// The group was cleared.
    pub(crate) fn cleared(&self) {
        let mut ensemble = self.ensemble.lock();
        self.pending.lock().clear();
        ensemble.clear();
    }

    /// Works off what waits.
    pub(crate) fn catch_up(&self, present: &Present, now: Tick) {
        let mut ensemble = self.ensemble.lock();
        let accesses = self.taken();
        let below = self.below.0.load(Ordering::Relaxed);
        let wanted = ensemble.work_off(&accesses, below, present, now);
        self.sample_below(&mut self.pending.lock(), below, wanted);
    }

    /// What waits. The next queue is made here, so that no read has to make it.
    fn taken(&self) -> Vec<Access> {
        if self.pending.lock().is_empty() {
            return Vec::new();
        }
        let empty = Vec::with_capacity(MAX_PENDING);
        std::mem::replace(&mut *self.pending.lock(), empty)
    }

    pub(crate) fn curve(&self) -> Result<Curve, TooYoung> {
        let mut curve = self.ensemble.lock().curve()?;
        curve.memory_bytes = self.memory_bytes();
        Ok(curve)
    }

    /// Bytes that the prediction uses now.
    fn memory_bytes(&self) -> u64 {
        let pending = self.pending.lock().capacity() * size_of::<Access>();
        (self.ensemble.lock().memory_bytes() + pending) as u64
    }

    fn push(&self, access: Access) {
        let mut pending = self.pending.lock();
        if pending.len() >= MAX_PENDING {
            let below = self.below.0.load(Ordering::Relaxed);
            self.sample_below(&mut pending, below, (below / 2).max(1));
        }
        if self.samples(access.hash) && pending.len() < MAX_PENDING {
            pending.push(access);
        }
    }

    /// Moves the border, unless somebody else did so since it was read as `from`. Called under the
    /// lock of `pending`, so that no access of a key above it stays there.
    fn sample_below(&self, pending: &mut Vec<Access>, from: u32, to: u32) {
        let relaxed = Ordering::Relaxed;
        if from != to && self.below.0.compare_exchange(from, to, relaxed, relaxed).is_ok() {
            pending.retain(|access| access.hash < to);
        }
    }
}

#[cfg(test)]
mod tests;
