//! Reads and loads, by group.

use prometheus::{
    Histogram, HistogramOpts, HistogramTimer, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Registry,
};

use super::{opts, register};

/// Upper bounds of the origin's answer times, seconds. Few, because there are as many series a
/// group.
const ORIGIN_BUCKETS: &[f64] = &[0.001, 0.005, 0.02, 0.1, 0.5, 2.0];

/// How a read by an application ended: the label `result` of `larder_gets_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// From our own entries.
    HitLocal,
    /// From a copy of another member's entry.
    HitHot,
    /// From its owner's entries.
    HitPeer,
    /// From the origin.
    Miss,
    /// Past its life, and allowed.
    Stale,
    /// Not at all.
    Error,
}

/// Whom a load asks: the label `where`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// The group's origin.
    Origin,
    /// The key's owner.
    Peer,
}

impl Outcome {
    /// How many there are.
    pub const COUNT: usize = 6;
    /// All of them, in the order of their numbers.
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

    /// True when no caller waited for the origin.
    #[must_use]
    pub fn is_hit(self) -> bool {
        matches!(self, Self::HitLocal | Self::HitHot | Self::HitPeer | Self::Stale)
    }
}

impl Where {
    const ALL: [Self; 2] = [Self::Origin, Self::Peer];

    fn label(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Peer => "peer",
        }
    }
}

/// The area's metrics.
#[derive(Clone)]
pub struct CacheMetrics {
    gets: IntCounterVec,
    loads: IntCounterVec,
    deduped: IntCounterVec,
    load_errors: IntCounterVec,
    origin_seconds: HistogramVec,
    origin_inflight: IntGaugeVec,
    shed: IntCounterVec,
    /// Requests of peers for keys that are not ours in our ring.
    pub not_owner: IntCounter,
    /// Answers of owners that do not think themselves the owner.
    pub view_mismatch: IntCounter,
    /// Keys loaded here because neither the owner nor its stand-in answered.
    pub fallbacks: IntCounter,
}

/// One group's children.
pub struct GroupMetrics {
    gets: [IntCounter; Outcome::COUNT],
    loads: [IntCounter; 2],
    deduped: [IntCounter; 2],
    load_errors: [IntCounter; 2],
    origin_seconds: Histogram,
    origin_inflight: IntGauge,
}

/// Measures one call of an origin, however it ends.
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
        let counter = |name, help| {
            register(registry, IntCounter::with_opts(opts(name, help)).expect("valid names"))
        };
        let seconds = HistogramOpts::from(opts(
            "origin_duration_seconds",
            "Time that the origin took for one load, its time in the queue included.",
        ));
        let seconds = seconds.buckets(ORIGIN_BUCKETS.to_vec());
        Self {
            gets: counters("gets_total", "Keys read by applications.", &["group", "result"]),
            loads: counters("loads_total", "Loads begun.", &["group", "where"]),
            deduped: counters(
                "loads_deduped_total",
                "Reads that joined a load already in flight.",
                &["group", "where"],
            ),
            load_errors: counters("load_errors_total", "Loads failed.", &["group", "where"]),
            origin_seconds: register(
                registry,
                HistogramVec::new(seconds, &["group"]).expect("valid names"),
            ),
            origin_inflight: register(
                registry,
                IntGaugeVec::new(opts("origin_inflight", "Loads at the origin now."), &["group"])
                    .expect("valid names"),
            ),
            shed: counters("shed_total", "Reads refused at the edge.", &["reason"]),
            not_owner: counter(
                "peer_not_owner_total",
                "Keys that a peer asked for and that are not this member's in its own ring.",
            ),
            view_mismatch: counter(
                "ring_view_mismatch_total",
                "Answers of owners that are not the owner in their own ring.",
            ),
            fallbacks: counter(
                "owner_fallbacks_total",
                "Keys loaded here because neither owner nor stand-in answered.",
            ),
        }
    }

    /// The children of one group.
    #[must_use]
    pub fn group(&self, name: &str) -> GroupMetrics {
        let by_place = |vec: &IntCounterVec| {
            Where::ALL.map(|place| vec.with_label_values(&[name, place.label()]))
        };
        GroupMetrics {
            gets: Outcome::ALL.map(|o| self.gets.with_label_values(&[name, o.label()])),
            loads: by_place(&self.loads),
            deduped: by_place(&self.deduped),
            load_errors: by_place(&self.load_errors),
            origin_seconds: self.origin_seconds.with_label_values(&[name]),
            origin_inflight: self.origin_inflight.with_label_values(&[name]),
        }
    }

    /// Ends the series of a group that is no more.
    pub fn forget_group(&self, name: &str) {
        for outcome in Outcome::ALL {
            _ = self.gets.remove_label_values(&[name, outcome.label()]);
        }
        for vec in [&self.loads, &self.deduped, &self.load_errors] {
            for place in Where::ALL {
                _ = vec.remove_label_values(&[name, place.label()]);
            }
        }
        _ = self.origin_seconds.remove_label_values(&[name]);
        _ = self.origin_inflight.remove_label_values(&[name]);
    }

    /// A read was refused at the edge, for an error's kind.
    pub fn refused(&self, kind: &'static str) {
        self.shed.with_label_values(&[kind]).inc();
    }
}

impl GroupMetrics {
    /// Counts a read by an application.
    pub fn count(&self, outcome: Outcome) {
        self.gets[outcome as usize].inc();
    }

    /// Counts the begin of a load.
    pub fn load(&self, place: Where) {
        self.loads[place as usize].inc();
    }

    /// Counts a read that joined a load.
    pub fn deduped(&self, place: Where) {
        self.deduped[place as usize].inc();
    }

    /// Counts a load that failed.
    pub fn load_error(&self, place: Where) {
        self.load_errors[place as usize].inc();
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

    /// Reads by applications, by outcome.
    #[must_use]
    pub fn gets(&self) -> [u64; Outcome::COUNT] {
        self.gets.each_ref().map(IntCounter::get)
    }

    /// Calls of the origin.
    #[must_use]
    pub fn loads(&self) -> u64 {
        self.loads[Where::Origin as usize].get()
    }

    /// Calls of the origin that failed.
    #[must_use]
    pub fn load_errors(&self) -> u64 {
        self.load_errors[Where::Origin as usize].get()
    }
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
    fn outcomes_are_numbered_as_listed() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }

    #[test]
    fn a_forgotten_group_leaves_no_series() {
        let registry = Registry::new();
        let metrics = CacheMetrics::register(&registry);
        let group = metrics.group("students");
        group.count(Outcome::Miss);
        drop(group.origin_call());
        assert_eq!(group.gets(), [0, 0, 0, 1, 0, 0]);
        metrics.forget_group("students");
        let left = registry.gather().iter().flat_map(|f| f.get_metric().to_vec()).count();
        assert_eq!(left, 3, "only what has no group");
    }
}
