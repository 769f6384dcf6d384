//! Owns the miniatures of one group and what their misses say about all keys: counts, their fading,
//! the part of the keys that is sampled, and the correction for which keys these happen to be. It
//! never meets the hot path.

use crate::curve::shadow::Shadow;
use crate::curve::{Access, CURVE_PERCENTS, Curve, ENOUGH, MEMORY_BYTES, TooYoung, What};
use crate::policy::PolicyKind;
use crate::tags::TagEpochs;
use crate::tick::Tick;

/// Counts are halved this often, so that the curve speaks of the last minutes ...
const HALVED_EVERY_MS: u64 = 300_000;
/// ... but not before so many sampled reads were counted, so that a quiet group has a curve too.
const HALVED_ABOVE: f64 = 2.0 * ENOUGH as f64;
/// Rounds of little work before more keys are sampled.
const CALM_ROUNDS: u32 = 40;
/// Little work: at most so many accesses in a round.
const CALM: usize = super::MAX_PENDING / 8;
/// Halvings between the largest sample and that of a miniature of the present size.
const WIDER: u32 = 2;
/// Accesses between two looks at the memory.
const ROOM_CHECKED_EVERY: usize = 16;
/// No fewer hashes than these are sampled.
const LEAST_BELOW: u32 = 1 << 12;

/// The group as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) policy: PolicyKind,
    pub(crate) limit_bytes: u64,
    /// Bytes that absent entries may take.
    pub(crate) absent_bytes: u64,
    /// Reads since the group was made.
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

/// See the module. Counts of reads and misses are of all keys, sampled or not.
#[derive(Debug)]
pub(super) struct Ensemble {
    /// Every policy at the present size, then the present policy at every other size. Made with
    /// the first access.
    shadows: Vec<Shadow>,
    /// Border of the sample that a miniature of the present size sees.
    below: u32,
    /// Keys below this are counted: after more keys came into the sample, these are new to the
    /// miniatures and would only count as misses.
    counted_below: u32,
    /// Accesses until the keys that came last are counted too.
    warming: usize,
    /// Rounds of little work in a row.
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

    /// One round. Says up to which hash keys should be sampled from now on.
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

    /// Follows the group: its policy, its room, its counters, and the border of the sample.
    fn adopt(&mut self, present: &Present, below: u32) {
        if self.shadows.is_empty() {
            self.shadows = made(present.policy);
        }
        if present.policy != self.present.policy {
            // What was counted for other sizes was the other policy's.
            let sizes = &mut self.shadows[PolicyKind::ALL.len()..];
            sizes.iter_mut().for_each(|shadow| shadow.set_policy(present.policy));
            self.scale(0.0);
        }
        self.reads += (present.hits + present.misses) as f64
            - (self.present.hits + self.present.misses) as f64;
        self.misses += present.misses as f64 - self.present.misses as f64;
        self.present = *present;
        // The hot path asked for fewer.
        let fewer = below < widest(self.below);
        self.sample_below(if fewer { below >> WIDER } else { self.below });
    }

    /// Moves the border of the sample, and with it the miniatures' room.
    fn sample_below(&mut self, below: u32) {
        self.below = below.max(LEAST_BELOW);
        self.counted_below = self.counted_below.min(self.below);
        let Present { limit_bytes, absent_bytes, .. } = self.present;
        for shadow in &mut self.shadows {
            shadow.resize(border(self.below, shadow.percent), limit_bytes, absent_bytes);
        }
    }

    /// Samples fewer keys until the miniatures are small enough.
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

    /// More keys are sampled when there is room and time for them.
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
        let (_, own) = own.expect("every policy has its miniature");
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

    /// SHARDS-adj counts on the known number of all reads and not on that of the sampled ones:
    /// whether a hot key is in the sample changes the latter, but not the misses. Here the number
    /// of real misses is known too, of all keys and of the sampled ones. The difference says what
    /// the sample leaves out, as far as a miniature's misses are the real ones': all of it for
    /// one that misses as often or more, in proportion for one that misses less (a difference and
    /// a ratio estimator; Cochran, "Sampling Techniques", 1977, chapters 6 and 7).
    fn hit_ratio(&self, shadow: &Shadow) -> f64 {
        let alike = (shadow.misses / shadow.real_misses.max(1.0)).min(1.0);
        let left_out = self.misses - shadow.real_misses;
        (1.0 - (shadow.misses + alike * left_out) / self.reads).clamp(0.0, 1.0)
    }
}

/// A count or a size without its fraction.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and sizes are not negative and far below 2^53"
)]
pub(super) fn whole(number: f64) -> u64 {
    number as u64
}

/// The border of the sample that a miniature of so many percent sees. Small ones see more keys, or
/// they would hold too few to be like the real thing; for the largest, half is plenty.
fn border(below: u32, percent: u32) -> u32 {
    match percent {
        ..=25 => below.saturating_mul(1 << WIDER),
        26..=50 => below.saturating_mul(2),
        51..=100 => below,
        _ => below / 2,
    }
}

/// The border of the largest sample: what the hot path tells.
fn widest(below: u32) -> u32 {
    border(below, 0)
}

fn made(policy: PolicyKind) -> Vec<Shadow> {
    let policies = PolicyKind::ALL.iter().map(|&kind| Shadow::new(kind, 100));
    let others = CURVE_PERCENTS.into_iter().filter(|&percent| percent != 100);
    policies.chain(others.map(|percent| Shadow::new(policy, percent))).collect()
}
