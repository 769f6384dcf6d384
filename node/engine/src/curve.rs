//! Live prediction of a group's hit ratio with other memory sizes and under other policies. Never
//! changes what the group holds. Start at [`Watch::samples`], then `curve/ensemble.rs`.
//!
//! Keys are sampled by hash (SHARDS: Waldspurger, Park, Garthwaite, Ahmad, "Efficient MRC
//! Construction with SHARDS", FAST 2015). The sampled accesses are replayed on miniature caches
//! without keys and values, one for each size and each policy (Waldspurger, Saemundsson, Ahmad,
//! Park, "Cache Modeling and Optimization using Miniature Simulations", ATC 2017). A miniature is
//! the real `Store` with the real policy, so a new policy is predicted without further work.
//!
//! # Cost
//! A read of a key that is not sampled costs one load and one comparison. A read of a sampled key
//! also writes an [`Access`] into a bounded queue, which the sweep replays: at most [`MAX_PENDING`]
//! accesses at a time. For any number of keys and reads, the sampling rate falls until that and
//! [`MEMORY_BYTES`] suffice, and rises again when the load is low.
//!
//! # Locks
//! `pending` is held for one push and `ensemble` for one round of replay. Neither is held together
//! with a shard's lock. `pending` may be acquired while `ensemble` is held.

mod ensemble;
mod shadow;

use crate::curve::ensemble::Ensemble;
pub(crate) use crate::curve::ensemble::Present;
use crate::entry::Entry;
use crate::policy::PolicyKind;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::tick::Tick;

/// Predicted sizes, in percent of the group's current limit.
pub const CURVE_PERCENTS: [u32; 5] = [25, 50, 100, 200, 400];

/// Reads of sampled keys needed for a prediction.
const ENOUGH: u64 = 1_000;

/// Maximum number of accesses queued for the next sweep: 48 KiB.
const MAX_PENDING: usize = 2_048;

/// Maximum number of bytes of all miniatures of a group. Together with the rounding of their slabs
/// (twelve chunks of slots), their timer wheels and the queue of accesses, the prediction for one
/// group takes 512 KiB.
const MEMORY_BYTES: usize = 320 << 10;

/// Measured and predicted hit ratios of one group over the last minutes.
#[derive(Clone, PartialEq, Debug)]
pub struct Curve {
    /// The group's current policy.
    pub policy: PolicyKind,
    /// The group's current limit in bytes, which is 100 percent.
    pub limit_bytes: u64,
    /// Reads behind the ratios, older ones counting less. Use it as the weight when averaging the
    /// curves of several members.
    pub requests: u64,
    /// Of these, reads of sampled keys.
    pub sampled: u64,
    /// Reads of sampled keys needed for a prediction.
    pub needed: u64,
    /// Measured hit ratio over the same reads, 0 to 1.
    pub actual: f64,
    /// Predicted hit ratios of the current policy, for each of [`CURVE_PERCENTS`].
    pub sizes: [f64; CURVE_PERCENTS.len()],
    /// Predicted hit ratios of every policy at the current size, in the order of
    /// [`PolicyKind::ALL`].
    pub policies: Vec<(PolicyKind, f64)>,
    /// Bytes used by the prediction itself.
    pub memory_bytes: u64,
}

/// Too few reads were sampled since the group was created or its policy changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not enough requests yet: {sampled} of {needed} sampled")]
pub struct TooYoung {
    /// Reads of sampled keys so far.
    pub sampled: u64,
    /// Reads of sampled keys needed for a prediction.
    pub needed: u64,
}

/// The properties of a sampled key's entry that a miniature needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    weight: u32,
    life_ms: u32,
    is_absent: bool,
}

/// One operation on a sampled key.
#[derive(Clone, Copy, Debug)]
struct Access {
    now: Tick,
    hash: u32,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// A read that found this entry.
    Hit(Outline),
    /// A read that found no entry or an expired one.
    Miss,
    /// An insert of a key without an entry.
    Fill(Outline),
    /// An insert that replaced an entry.
    Refresh(Outline),
    Invalidate,
}

/// Collects the accesses to a group's sampled keys and owns the group's prediction.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Keys whose hash is below this are sampled; 0 turns the prediction off. It has a cache line
    /// of its own because every read loads it and writes are rare.
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

    /// True if the key is sampled. Everything else in this type is off the common path.
    #[inline]
    pub(crate) fn samples(&self, hash: u32) -> bool {
        hash < self.below.0.load(Ordering::Relaxed)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.below.0.load(Ordering::Relaxed) > 0
    }

    /// Records a read and the entry that it found.
    #[cold]
    pub(crate) fn read(&self, hash: u32, found: Option<Outline>, now: Tick) {
        self.push(Access { now, hash, what: found.map_or(What::Miss, What::Hit) });
    }

    /// Records an insert; `replaced` if the key already had an entry.
    #[cold]
    pub(crate) fn stored(&self, hash: u32, entry: Outline, replaced: bool, now: Tick) {
        let what = if replaced { What::Refresh(entry) } else { What::Fill(entry) };
        self.push(Access { now, hash, what });
    }

    /// Records an invalidation.
    #[cold]
    pub(crate) fn invalidated(&self, hash: u32) {
        self.push(Access { now: Tick::ZERO, hash, what: What::Invalidate });
    }

    /// Records that the group was cleared.
    pub(crate) fn cleared(&self) {
        let mut ensemble = self.ensemble.lock();
        self.pending.lock().clear();
        ensemble.clear();
    }

    /// Replays the queued accesses.
    pub(crate) fn catch_up(&self, present: &Present, now: Tick) {
        let mut ensemble = self.ensemble.lock();
        let accesses = self.taken();
        let below = self.below.0.load(Ordering::Relaxed);
        let wanted = ensemble.work_off(&accesses, below, present, now);
        self.sample_below(&mut self.pending.lock(), below, wanted);
    }

    /// Takes the queued accesses. Allocates the next queue here, so that no read has to.
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

    /// Bytes currently used by the prediction.
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

    /// Changes the sampling threshold, unless another thread changed it since it was read as
    /// `from`. The caller holds the lock of `pending`, so no access above the threshold remains
    /// queued.
    fn sample_below(&self, pending: &mut Vec<Access>, from: u32, to: u32) {
        let relaxed = Ordering::Relaxed;
        if from != to && self.below.0.compare_exchange(from, to, relaxed, relaxed).is_ok() {
            pending.retain(|access| access.hash < to);
        }
    }
}

#[cfg(test)]
mod tests;
