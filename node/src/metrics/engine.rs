//! What the engines hold, read at each scrape and never in between.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use larder_engine::{CURVE_PERCENTS, Curve, GroupStats, PolicyKind};
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Registry};
use tokio::time::Instant;

use super::cache::{CountedAs, hit_ratio};
use super::register::opts;

/// Time over which the gauge of the hit ratio is computed.
const WINDOW: Duration = Duration::from_secs(60);
/// Most samples in a window, whatever the scrape interval.
const MAX_SAMPLES: usize = 64;

type Gets = [u64; CountedAs::COUNT];

/// What one scrape reads.
pub struct EngineFigures {
    /// Every group.
    pub groups: Vec<GroupFigures>,
    /// Requests that wait for a load or a peer, by where they came from.
    pub waiting: [(&'static str, usize); 2],
}

/// Figures of one group.
pub struct GroupFigures {
    /// Name of the group.
    pub name: String,
    /// Entries that this member owns.
    pub main: GroupStats,
    /// Copies of other members' entries.
    pub hot: GroupStats,
    /// Reads by applications since the start.
    pub gets: [u64; CountedAs::COUNT],
    /// `None` until enough reads were sampled.
    pub curve: Option<Curve>,
}

/// Collects the figures of a cache.
pub struct EngineCollector {
    read: Box<dyn Fn() -> EngineFigures + Send + Sync>,
    items: IntGaugeVec,
    bytes: IntGaugeVec,
    limit: IntGaugeVec,
    evictions: IntCounterVec,
    refused: IntCounterVec,
    ratio: GaugeVec,
    predicted: GaugeVec,
    waiting: GaugeVec,
    /// Samples of the last minute by group. The lock also serialises scrapes.
    samples: Mutex<BTreeMap<String, VecDeque<(Instant, Gets)>>>,
}

impl EngineCollector {
    /// Registers the area. `read` is called at each scrape.
    pub fn register(registry: &Registry, read: impl Fn() -> EngineFigures + Send + Sync + 'static) {
        let gauges = |name, help| {
            IntGaugeVec::new(opts(name, help), &["group", "type"]).expect("valid names")
        };
        let collector = Self {
            read: Box::new(read),
            items: gauges("cache_items", "Entries held: own (main) and copied (hot)."),
            bytes: gauges("cache_bytes", "Bytes charged to entries."),
            limit: gauges("cache_limit_bytes", "Bytes that the group may use now."),
            evictions: IntCounterVec::new(
                opts("cache_evictions_total", "Entries removed, by cause."),
                &["group", "type", "cause"],
            )
            .expect("valid names"),
            refused: IntCounterVec::new(
                opts("cache_refused_total", "Loaded values not stored, by reason."),
                &["group", "type", "reason"],
            )
            .expect("valid names"),
            ratio: GaugeVec::new(
                opts("hit_ratio", "Share of reads in the last minute answered without a load."),
                &["group"],
            )
            .expect("valid names"),
            predicted: GaugeVec::new(
                opts(
                    "predicted_hit_ratio",
                    "Predicted hit ratio of own entries at a multiple (size) of the present memory, \
                     for the policy in force; at size 1 also for the best other policy.",
                ),
                &["group", "policy", "size"],
            )
            .expect("valid names"),
            waiting: GaugeVec::new(
                opts(
                    "waiting_requests",
                    "Requests that wait for a load or a peer now, by where they came from.",
                ),
                &["from"],
            )
            .expect("valid names"),
            samples: Mutex::default(),
        };
        registry.register(Box::new(collector)).expect("registered once in a registry");
    }

    fn set(&self, group: &str, kind: &str, stats: &GroupStats) {
        let labels = [group, kind];
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.items.with_label_values(&labels).set(whole(stats.entries));
        self.bytes.with_label_values(&labels).set(whole(stats.bytes));
        self.limit.with_label_values(&labels).set(whole(stats.limit_bytes));
        let causes = [
            ("size", stats.evicted + stats.evicted_absent),
            ("expired", stats.expired),
            ("replaced", stats.replaced),
            ("removed", stats.invalidated + stats.cleared),
        ];
        let reasons = [("fenced", stats.refused_fenced), ("too_large", stats.refused_too_large)];
        for (vec, counts) in [(&self.evictions, &causes[..]), (&self.refused, &reasons[..])] {
            // A series is created with its first event, so that a member has few.
            for &(label, count) in counts.iter().filter(|(_, count)| *count > 0) {
                vec.with_label_values(&[labels[0], labels[1], label]).inc_by(count);
            }
        }
    }

    /// Sets six series at most.
    fn set_predictions(&self, group: &str, curve: &Curve) {
        let set = |policy: PolicyKind, size: &str, hit_ratio| {
            self.predicted.with_label_values(&[group, policy.name(), size]).set(hit_ratio);
        };
        for (percent, hit_ratio) in CURVE_PERCENTS.into_iter().zip(curve.sizes) {
            set(curve.policy, &(f64::from(percent) / 100.0).to_string(), hit_ratio);
        }
        let rivals = curve.policies.iter().filter(|(policy, _)| *policy != curve.policy);
        if let Some(&(policy, hit_ratio)) = rivals.max_by(|a, b| a.1.total_cmp(&b.1)) {
            set(policy, "1", hit_ratio);
        }
    }
}

impl Collector for EngineCollector {
    fn desc(&self) -> Vec<&Desc> {
        let vecs: [Vec<&Desc>; 8] = [
            self.items.desc(),
            self.bytes.desc(),
            self.limit.desc(),
            self.evictions.desc(),
            self.refused.desc(),
            self.ratio.desc(),
            self.predicted.desc(),
            self.waiting.desc(),
        ];
        vecs.concat()
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge of small counts")]
    fn collect(&self) -> Vec<MetricFamily> {
        let mut samples = self.samples.lock();
        // Rebuilt at each scrape: deleted groups leave no series, and counters start at zero.
        for vec in [&self.items, &self.bytes, &self.limit] {
            vec.reset();
        }
        self.evictions.reset();
        self.refused.reset();
        self.ratio.reset();
        self.predicted.reset();
        let (EngineFigures { groups, waiting }, now) = ((self.read)(), Instant::now());
        samples.retain(|name, _| groups.iter().any(|group| group.name == *name));
        for group in &groups {
            self.set(&group.name, "main", &group.main);
            self.set(&group.name, "hot", &group.hot);
            if let Some(curve) = &group.curve {
                self.set_predictions(&group.name, curve);
            }
            let window = samples.entry(group.name.clone()).or_default();
            if let Some(ratio) = hit_ratio(&within_window(window, now, group.gets)) {
                self.ratio.with_label_values(&[&group.name]).set(ratio);
            }
        }
        for (from, count) in waiting {
            self.waiting.with_label_values(&[from]).set(count as f64);
        }
        [
            self.items.collect(),
            self.bytes.collect(),
            self.limit.collect(),
            self.evictions.collect(),
            self.refused.collect(),
            self.ratio.collect(),
            self.predicted.collect(),
            self.waiting.collect(),
        ]
        .concat()
    }
}

/// Adds a sample and returns the counts since the oldest sample of the last minute. The window of a
/// new group starts at zero.
fn within_window(window: &mut VecDeque<(Instant, Gets)>, now: Instant, gets: Gets) -> Gets {
    if window.is_empty() {
        window.push_back((now, [0; CountedAs::COUNT]));
    }
    // Keeps one sample older than the window, as the start of the window.
    while window.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
        window.pop_front();
    }
    let since = window[0].1;
    if window.len() < MAX_SAMPLES {
        window.push_back((now, gets));
    }
    std::array::from_fn(|i| gets[i].saturating_sub(since[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_covers_the_last_minute() {
        let (start, mut window) = (Instant::now(), VecDeque::new());
        let at = |seconds| start + Duration::from_secs(seconds);
        let gets = |hits, misses| [hits, 0, 0, misses, 0, 0];
        let mut sample = |seconds, hits, misses| {
            hit_ratio(&within_window(&mut window, at(seconds), gets(hits, misses)))
        };
        assert_eq!(sample(0, 0, 0), None);
        assert_eq!(sample(1, 0, 100), Some(0.0));
        assert_eq!(sample(31, 100, 100), Some(0.5));
        assert_eq!(sample(61, 200, 100), Some(1.0), "the misses of second 1 are a minute old");
        assert_eq!(sample(500, 200, 100), None, "no read in the last minute");
    }
}
