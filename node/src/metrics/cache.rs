//! Reads and loads, by group.

use prometheus::{
    Histogram, HistogramOpts, HistogramTimer, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Registry,
};

use super::register::{counter, opts, register};
use super::take_over::TakeOverMetrics;

/// Upper bounds of the origin's response times, seconds. Few, because each group has as many
/// series.
const ORIGIN_BUCKETS: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0];

/// How a read by an application ended: the label `result` of `larder_gets_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedAs {
    /// Answered from this member's own entries.
    HitLocal,
    /// Answered from a copy of another member's entry.
    HitHot,
    /// Answered from the owner's entries.
    HitPeer,
    /// Loaded from the origin.
    Miss,
    /// Answered with a value past its TTL, as the group's freshness allows.
    Stale,
    /// Failed.
    Error,
}

/// Where a load goes: the label `where`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadTarget {
    /// The group's origin.
    Origin,
    /// The key's owner.
    Peer,
}

impl CountedAs {
    /// Number of variants.
    pub const COUNT: usize = 6;
    /// The variants, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::HitLocal, Self::HitHot, Self::HitPeer, Self::Miss, Self::Stale, Self::Error];

    /// The label's value.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::HitLocal => "hit_local",
            Self::HitHot => "hit_hot",
            Self::HitPeer => "hit_peer",
            Self::Miss => "miss",
            Self::Stale => "stale",
            Self::Error => "error",
        }
    }

    /// True if the read waited for no load.
    #[must_use]
    pub fn is_hit(self) -> bool {
        matches!(self, Self::HitLocal | Self::HitHot | Self::HitPeer | Self::Stale)
    }
}

/// Why a load did not reach the origin: the label `reason` of `larder_origin_refused_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginRefusal {
    /// Several loads in a row failed; the origin is asked once a second.
    Suspended,
    /// The limit of loads per second.
    RateLimited,
    /// The limit of concurrent and waiting loads.
    Busy,
    /// Loads arrive faster than they end.
    Overloaded,
    /// The load of this key failed within the last second.
    FailedKey,
}

impl OriginRefusal {
    const COUNT: usize = 5;
    const ALL: [Self; Self::COUNT] =
        [Self::Suspended, Self::RateLimited, Self::Busy, Self::Overloaded, Self::FailedKey];

    fn label(self) -> &'static str {
        match self {
            Self::Suspended => "suspended",
            Self::RateLimited => "rate_limited",
            Self::Busy => "busy",
            Self::Overloaded => "overloaded",
            Self::FailedKey => "failed_key",
        }
    }
}

impl LoadTarget {
    const ALL: [Self; 2] = [Self::Origin, Self::Peer];

    fn label(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Peer => "peer",
        }
    }
}

/// Metrics of the read path. Clones share them.
#[derive(Clone)]
pub struct CacheMetrics {
    gets: IntCounterVec,
    loads: IntCounterVec,
    deduped: IntCounterVec,
    load_errors: IntCounterVec,
    origin_seconds: HistogramVec,
    origin_inflight: IntGaugeVec,
    origin_refused: IntCounterVec,
    shed: IntCounterVec,
    /// Requests from peers for keys that this member's ring places elsewhere.
    pub not_owner: IntCounter,
    /// Answers from owners whose own ring places the key elsewhere.
    pub view_mismatch: IntCounter,
    /// Keys loaded here because neither the owner nor its stand-in answered.
    pub fallbacks: IntCounter,
    /// Entries taken over from other members.
    pub take_over: TakeOverMetrics,
}

/// Metrics of one group, with its label resolved.
pub struct GroupMetrics {
    gets: [IntCounter; CountedAs::COUNT],
    loads: [IntCounter; 2],
    deduped: [IntCounter; 2],
    load_errors: [IntCounter; 2],
    origin_seconds: Histogram,
    origin_inflight: IntGauge,
    origin_refused: [IntCounter; OriginRefusal::COUNT],
}

/// Measures one call of an origin until it is dropped.
pub struct OriginCall {
    inflight: IntGauge,
    _timer: HistogramTimer,
}

impl CacheMetrics {
    /// Registers the area.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let counters = |name, help, labels: &[&str]| {
            let vec = IntCounterVec::new(opts(name, help), labels).expect("valid names");
            register(registry, vec)
        };
        let counter = |name, help| counter(registry, name, help);
        let seconds = HistogramOpts::from(opts(
            "origin_duration_seconds",
            "Time of one load from the origin, including its time in the queue.",
        ));
        let seconds = seconds.buckets(ORIGIN_BUCKETS.to_vec());
        Self {
            gets: counters(
                "gets_total",
                "Keys read by applications, by result.",
                &["group", "result"],
            ),
            loads: counters("loads_total", "Loads started.", &["group", "where"]),
            deduped: counters(
                "loads_deduped_total",
                "Reads that joined a load already in flight.",
                &["group", "where"],
            ),
            load_errors: counters("load_errors_total", "Loads that failed.", &["group", "where"]),
            origin_seconds: register(
                registry,
                HistogramVec::new(seconds, &["group"]).expect("valid names"),
            ),
            origin_inflight: register(
                registry,
                IntGaugeVec::new(
                    opts("origin_inflight", "Loads waiting for the origin now."),
                    &["group"],
                )
                .expect("valid names"),
            ),
            origin_refused: counters(
                "origin_refused_total",
                "Loads that were refused before the origin was asked, by reason.",
                &["group", "reason"],
            ),
            shed: counters(
                "shed_total",
                "Reads refused before any work started, by reason and by where they came from.",
                &["reason", "from"],
            ),
            not_owner: counter(
                "peer_not_owner_total",
                "Keys requested by a peer that this member's ring places elsewhere.",
            ),
            view_mismatch: counter(
                "ring_view_mismatch_total",
                "Answers from owners whose own ring places the key elsewhere.",
            ),
            fallbacks: counter(
                "owner_fallbacks_total",
                "Keys loaded here because neither the owner nor its stand-in answered.",
            ),
            take_over: TakeOverMetrics::register(registry),
        }
    }

    /// The metrics of one group.
    #[must_use]
    pub fn group(&self, name: &str) -> GroupMetrics {
        let by_target = |vec: &IntCounterVec| {
            LoadTarget::ALL.map(|target| vec.with_label_values(&[name, target.label()]))
        };
        GroupMetrics {
            gets: CountedAs::ALL.map(|result| self.gets.with_label_values(&[name, result.label()])),
            loads: by_target(&self.loads),
            deduped: by_target(&self.deduped),
            load_errors: by_target(&self.load_errors),
            origin_seconds: self.origin_seconds.with_label_values(&[name]),
            origin_inflight: self.origin_inflight.with_label_values(&[name]),
            origin_refused: OriginRefusal::ALL
                .map(|refusal| self.origin_refused.with_label_values(&[name, refusal.label()])),
        }
    }

    /// Removes the series of a deleted group.
    pub fn forget_group(&self, name: &str) {
        for counted_as in CountedAs::ALL {
            _ = self.gets.remove_label_values(&[name, counted_as.label()]);
        }
        for vec in [&self.loads, &self.deduped, &self.load_errors] {
            for target in LoadTarget::ALL {
                _ = vec.remove_label_values(&[name, target.label()]);
            }
        }
        _ = self.origin_seconds.remove_label_values(&[name]);
        _ = self.origin_inflight.remove_label_values(&[name]);
        for refusal in OriginRefusal::ALL {
            _ = self.origin_refused.remove_label_values(&[name, refusal.label()]);
        }
    }

    /// Counts a read that was refused before any work started, under the error's kind.
    pub fn refused(&self, kind: &'static str, from: &'static str) {
        self.shed.with_label_values(&[kind, from]).inc();
    }
}

impl GroupMetrics {
    /// Counts a read by an application.
    pub fn count(&self, counted_as: CountedAs) {
        self.gets[counted_as as usize].inc();
    }

    /// Counts a started load.
    pub fn load(&self, target: LoadTarget) {
        self.loads[target as usize].inc();
    }

    /// Counts a read that joined a load in flight.
    pub fn deduped(&self, target: LoadTarget) {
        self.deduped[target as usize].inc();
    }

    /// Counts a load that failed.
    pub fn load_error(&self, target: LoadTarget) {
        self.load_errors[target as usize].inc();
    }

    /// Counts a load that was refused before the origin was asked.
    pub fn refused(&self, refusal: OriginRefusal) {
        self.origin_refused[refusal as usize].inc();
    }

    /// Measures a call of the origin until it is dropped.
    #[must_use]
    pub fn origin_call(&self) -> OriginCall {
        self.origin_inflight.inc();
        OriginCall {
            inflight: self.origin_inflight.clone(),
            _timer: self.origin_seconds.start_timer(),
        }
    }

    /// Reads by applications, by [`CountedAs`].
    #[must_use]
    pub fn gets(&self) -> [u64; CountedAs::COUNT] {
        self.gets.each_ref().map(IntCounter::get)
    }

    /// Loads from the origin.
    #[must_use]
    pub fn loads(&self) -> u64 {
        self.loads[LoadTarget::Origin as usize].get()
    }

    /// Loads from the origin that failed.
    #[must_use]
    pub fn load_errors(&self) -> u64 {
        self.load_errors[LoadTarget::Origin as usize].get()
    }
}

/// Reads answered without a load, as a share of all reads; `None` if there were no reads.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a ratio needs no last bit")]
pub fn hit_ratio(gets: &[u64; CountedAs::COUNT]) -> Option<f64> {
    let reads: u64 = gets.iter().sum();
    let counts = CountedAs::ALL.iter().zip(gets);
    let hits: u64 = counts.filter(|(counted_as, _)| counted_as.is_hit()).map(|(_, n)| n).sum();
    (reads > 0).then(|| hits as f64 / reads as f64)
}

impl Drop for OriginCall {
    fn drop(&mut self) {
        self.inflight.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_numbered_as_listed() {
        for (index, counted_as) in CountedAs::ALL.into_iter().enumerate() {
            assert_eq!(counted_as as usize, index);
        }
        for (index, refusal) in OriginRefusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
    }

    #[test]
    fn a_deleted_group_leaves_no_series() {
        let registry = Registry::new();
        let metrics = CacheMetrics::register(&registry);
        let group = metrics.group("students");
        group.count(CountedAs::Miss);
        drop(group.origin_call());
        assert_eq!(group.gets(), [0, 0, 0, 1, 0, 0]);
        metrics.forget_group("students");
        let left = registry.gather().iter().flat_map(|f| f.get_metric().to_vec()).count();
        assert_eq!(left, 9, "only the metrics without a group label");
    }
}
