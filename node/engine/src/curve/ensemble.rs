//! The miniatures of one group, and the estimate for all keys from their misses: counts and their
//! decay, the sampling rate, and the correction for the choice of sampled keys. Not on the hot
//! path.

use crate::curve::shadow::Shadow;
use crate::curve::{Access, CURVE_PERCENTS, Curve, ENOUGH, MEMORY_BYTES, TooYoung, What};
use crate::policy::PolicyKind;
use crate::tags::TagEpochs;
use crate::tick::Tick;

/// Interval at which counts are halved, so that the curve describes the last minutes ...
const HALVED_EVERY_MS: u64 = 300_000;
/// ... unless fewer sampled reads were counted, so that a group with few reads has a curve too.
const HALVED_ABOVE: f64 = 2.0 * ENOUGH as f64;
/// Consecutive rounds of low load before more keys are sampled.
const CALM_ROUNDS: u32 = 40;
/// Maximum number of accesses in a round of low load.
const CALM: usize = super::MAX_PENDING / 8;
/// Number of halvings between the largest sample and that of a miniature of the current size.
const WIDER: u32 = 2;
/// Accesses between two checks of the memory bound.
const ROOM_CHECKED_EVERY: usize = 16;
/// Minimum of the sampling threshold.
const LEAST_BELOW: u32 = 1 << 12;

/// The current state of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) policy: PolicyKind,
    pub(crate) limit_bytes: u64,
    /// Limit of the bytes of absent entries.
    pub(crate) absent_bytes: u64,
    /// Reads since the group was created.
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

/// See the module. `reads` and `misses` count all keys, sampled or not.
#[derive(Debug)]
pub(super) struct Ensemble {
    /// Every policy at the current size, then the current policy at every other size. Created with
    /// the first access.
    shadows: Vec<Shadow>,
    /// Sampling threshold of a miniature of the current size.
    below: u32,
    /// Keys below this are counted. Keys that were added to the sample recently are not in the
    /// miniatures yet and would all count as misses.
    counted_below: u32,
    /// Accesses left until the keys that were added last are counted too.
    warming: usize,
    /// Consecutive rounds of low load.
    calm: u32,
    present: Present,
    reads: f64,
    misses: f64,
    sampled: f64,
    halved_at: Option<Tick>,
}

impl Ensemble {
    pub(super) fn new(policy: PolicyKind) -> Ensemble {
        let present = Present { policy, limit_bytes: 0, absent_bytes: 0, hits: 0, misses: 0 };
        Ensemble {
            shadows: Vec::new(),
            below: u32::MAX,
            counted_below: u32::MAX,
            warming: 0,
            calm: 0,
            present,
            reads: 0.0,
            misses: 0.0,
            sampled: 0.0,
            halved_at: None,
        }
    }

    pub(super) fn clear(&mut self) {
        self.shadows.iter_mut().for_each(Shadow::clear);
    }

    /// Replays one round of accesses. Returns the sampling threshold to use from now on.
    pub(super) fn work_off(
        &mut self,
        accesses: &[Access],
        below: u32,
        present: &Present,
        now: Tick,
    ) -> u32 {
        if self.shadows.is_empty() && accesses.is_empty() {
            return below;
        }
        self.adopt(present, below);
        let tags = TagEpochs::default();
        for (at, access) in accesses.iter().enumerate() {
            if at % ROOM_CHECKED_EVERY == 0 {
                self.make_room();
            }
            self.feed(access, &tags);
        }
        self.shadows.iter_mut().for_each(|shadow| shadow.expire(now));
        self.halve(now);
        self.next_below(accesses.len())
    }

    fn feed(&mut self, access: &Access, tags: &TagEpochs) {
        let is_read = matches!(access.what, What::Hit(_) | What::Miss);
        if is_read && access.hash < self.counted_below {
            self.sampled += 1.0;
        }
        for shadow in &mut self.shadows {
            shadow.feed(access, tags, border(self.counted_below, shadow.percent));
        }
        self.warming = self.warming.saturating_sub(1);
        if self.warming == 0 {
            self.counted_below = self.below;
        }
    }

    /// Applies the group's current policy, limit, counters and sampling threshold.
    fn adopt(&mut self, present: &Present, below: u32) {
        if self.shadows.is_empty() {
            self.shadows = made(present.policy);
        }
        if present.policy != self.present.policy {
            // The counts of the other sizes belong to the previous policy.
            let sizes = &mut self.shadows[PolicyKind::ALL.len()..];
            sizes.iter_mut().for_each(|shadow| shadow.set_policy(present.policy));
            self.scale(0.0);
        }
        self.reads += (present.hits + present.misses) as f64
            - (self.present.hits + self.present.misses) as f64;
        self.misses += present.misses as f64 - self.present.misses as f64;
        self.present = *present;
        // The hot path has lowered the threshold because its queue was full.
        let fewer = below < widest(self.below);
        self.sample_below(if fewer { below >> WIDER } else { self.below });
    }

    /// Sets the sampling threshold and scales the capacity of the miniatures accordingly.
    fn sample_below(&mut self, below: u32) {
        self.below = below.max(LEAST_BELOW);
        self.counted_below = self.counted_below.min(self.below);
        let Present { limit_bytes, absent_bytes, .. } = self.present;
        for shadow in &mut self.shadows {
            shadow.resize(border(self.below, shadow.percent), limit_bytes, absent_bytes);
        }
    }

    /// Lowers the threshold until the miniatures fit the memory bound.
    fn make_room(&mut self) {
        while self.memory_bytes() > MEMORY_BYTES && self.below > LEAST_BELOW {
            self.sample_below(self.below / 4 * 3);
        }
    }

    fn halve(&mut self, now: Tick) {
        let since = *self.halved_at.get_or_insert(now);
        if now.millis_since(since) >= HALVED_EVERY_MS && self.sampled >= HALVED_ABOVE {
            self.halved_at = Some(now);
            self.scale(0.5);
        }
    }

    fn scale(&mut self, factor: f64) {
        for count in [&mut self.reads, &mut self.misses, &mut self.sampled] {
            *count *= factor;
        }
        for shadow in &mut self.shadows {
            shadow.misses *= factor;
            shadow.real_misses *= factor;
        }
    }

    /// Raises the threshold if load and memory allow it, and returns the widest threshold.
    fn next_below(&mut self, accesses: usize) -> u32 {
        self.calm = if accesses <= CALM { self.calm + 1 } else { 0 };
        let room = self.memory_bytes() < MEMORY_BYTES / 3;
        if self.calm >= CALM_ROUNDS && room && self.counted_below == self.below {
            self.calm = 0;
            self.warming = 4 * self.shadows.iter().map(Shadow::len).max().unwrap_or(0);
            let counted = self.counted_below;
            self.sample_below(self.below.saturating_mul(2));
            self.counted_below = counted;
        }
        widest(self.below)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.shadows.iter().map(Shadow::memory_bytes).sum()
    }

    pub(super) fn curve(&self) -> Result<Curve, TooYoung> {
        let sampled = whole(self.sampled);
        if sampled < ENOUGH || self.reads < 1.0 {
            return Err(TooYoung { sampled: sampled.min(ENOUGH - 1), needed: ENOUGH });
        }
        let (policies, sizes) = self.shadows.split_at(PolicyKind::ALL.len());
        let policies: Vec<_> = policies.iter().map(|s| (s.policy, self.hit_ratio(s))).collect();
        let own = policies.iter().find(|(policy, _)| *policy == self.present.policy);
        let (_, own) = own.expect("every policy has a miniature");
        let size = |percent| {
            sizes.iter().find(|s| s.percent == percent).map_or(*own, |s| self.hit_ratio(s))
        };
        Ok(Curve {
            policy: self.present.policy,
            limit_bytes: self.present.limit_bytes,
            requests: whole(self.reads),
            sampled,
            needed: ENOUGH,
            actual: (1.0 - self.misses / self.reads).clamp(0.0, 1.0),
            sizes: CURVE_PERCENTS.map(size),
            policies,
            memory_bytes: 0,
        })
    }

    /// Estimates the hit ratio of all keys from a miniature.
    ///
    /// Like SHARDS-adj, the estimate divides by the known number of all reads and not by that of
    /// sampled reads: a hot key in the sample changes the latter but hardly the misses. The number
    /// of real misses is known too, for all keys and for the sampled ones. Their difference is the
    /// error of the sample. It is added in full for a miniature that misses as often as the group
    /// or more, and in proportion for one that misses less (a difference and a ratio estimator;
    /// Cochran, "Sampling Techniques", 1977, chapters 6 and 7).
    fn hit_ratio(&self, shadow: &Shadow) -> f64 {
        let alike = (shadow.misses / shadow.real_misses.max(1.0)).min(1.0);
        let left_out = self.misses - shadow.real_misses;
        (1.0 - (shadow.misses + alike * left_out) / self.reads).clamp(0.0, 1.0)
    }
}

/// Truncates a count or a size to a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and sizes are never negative and far below 2^53"
)]
pub(super) fn whole(number: f64) -> u64 {
    number as u64
}

/// Sampling threshold of a miniature of this size. Small miniatures get more keys, or they would
/// hold too few to be representative; for the largest, half of the keys is enough.
fn border(below: u32, percent: u32) -> u32 {
    match percent {
        ..=25 => below.saturating_mul(1 << WIDER),
        26..=50 => below.saturating_mul(2),
        51..=100 => below,
        _ => below / 2,
    }
}

/// Threshold of the largest sample, which the hot path applies.
fn widest(below: u32) -> u32 {
    border(below, 0)
}

fn made(policy: PolicyKind) -> Vec<Shadow> {
    let policies = PolicyKind::ALL.iter().map(|&kind| Shadow::new(kind, 100));
    let others = CURVE_PERCENTS.into_iter().filter(|&percent| percent != 100);
    policies.chain(others.map(|percent| Shadow::new(policy, percent))).collect()
}
