//! What the stores hold, gathered when somebody scrapes and never in between.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use larder_engine::{CURVE_PERCENTS, GroupStats, PolicyKind};
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGaugeVec, Registry};
use tokio::time::Instant;

use super::{Outcome, opts};
use crate::cache::{Cache, GroupReport, hit_ratio};

/// The hit ratio's gauge looks back so far.
const WINDOW: Duration = Duration::from_secs(60);
/// Samples a window holds at most, however often somebody scrapes.
const MAX_SAMPLES: usize = 64;

type Gets = [u64; Outcome::COUNT];

/// Collects a cache's figures.
pub struct EngineCollector {
    cache: Cache,
    items: IntGaugeVec,
    bytes: IntGaugeVec,
    limit: IntGaugeVec,
    evictions: IntCounterVec,
    refused: IntCounterVec,
    ratio: GaugeVec,
    predicted: GaugeVec,
    waiting: Gauge,
    /// One scrape at a time, with the samples of the last minute by group.
    samples: Mutex<BTreeMap<String, VecDeque<(Instant, Gets)>>>,
}

impl EngineCollector {
    /// Registers the area.
    pub fn register(registry: &Registry, cache: Cache) {
        let gauges = |name, help| {
            IntGaugeVec::new(opts(name, help), &["group", "type"]).expect("valid names")
        };
        let collector = Self {
            cache,
            items: gauges("cache_items", "Entries held, by own (main) and copied (hot)."),
            bytes: gauges("cache_bytes", "Bytes charged to entries."),
            limit: gauges("cache_limit_bytes", "Bytes that the group may use now."),
            evictions: IntCounterVec::new(
                opts("cache_evictions_total", "Entries that left, by cause."),
                &["group", "type", "cause"],
            )
            .expect("valid names"),
            refused: IntCounterVec::new(
                opts("cache_refused_total", "Loaded values not kept, by reason."),
                &["group", "type", "reason"],
            )
            .expect("valid names"),
            ratio: GaugeVec::new(
                opts("hit_ratio", "Reads answered without a load, of all in the last minute."),
                &["group"],
            )
            .expect("valid names"),
            predicted: GaugeVec::new(
                opts(
                    "predicted_hit_ratio",
                    "Hit ratio of own entries at so many times the present memory: of the policy \
                     in force, and at 1 of the best other one. The last minutes.",
                ),
                &["group", "policy", "size"],
            )
            .expect("valid names"),
            waiting: Gauge::with_opts(opts(
                "waiting_requests",
                "Requests that wait for a load or a peer now.",
            ))
            .expect("valid names"),
            samples: Mutex::default(),
        };
        registry.register(Box::new(collector)).expect("registered once, under names of its own");
    }

    fn set(&self, report: &GroupReport, kind: &str, stats: &GroupStats) {
        let labels = [report.name.as_str(), kind];
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
            // Series appear with their first event, so that a member has few.
            for &(label, count) in counts.iter().filter(|(_, count)| *count > 0) {
                vec.with_label_values(&[labels[0], labels[1], label]).inc_by(count);
            }
        }
    }
}

impl EngineCollector {
    /// Six series at most; none while the group is too young to tell.
    fn predict(&self, group: &str) {
        let Ok(Ok(curve)) = self.cache.curve(group) else { return };
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
        // Built anew each time: removed groups leave no series, and counters are set, not added.
        for vec in [&self.items, &self.bytes, &self.limit] {
            vec.reset();
        }
        self.evictions.reset();
        self.refused.reset();
        self.ratio.reset();
        self.predicted.reset();
        let (reports, now) = (self.cache.report(), Instant::now());
        samples.retain(|name, _| reports.iter().any(|report| report.name == *name));
        for report in &reports {
            self.set(report, "main", &report.main);
            self.set(report, "hot", &report.hot);
            self.predict(&report.name);
            let window = samples.entry(report.name.clone()).or_default();
            if let Some(ratio) = hit_ratio(&within_window(window, now, report.gets)) {
                self.ratio.with_label_values(&[&report.name]).set(ratio);
            }
        }
        self.waiting.set(self.cache.waiting() as f64);
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

/// Adds a sample and tells what was counted since the oldest one of the last minute; the first
/// sample of a group stands for its start.
fn within_window(window: &mut VecDeque<(Instant, Gets)>, now: Instant, gets: Gets) -> Gets {
    if window.is_empty() {
        window.push_back((now, [0; Outcome::COUNT]));
    }
    // One sample older than the window stays: the window reaches back to it.
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
    fn the_ratio_looks_back_one_minute() {
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
