//! The figures of one change, computed from its trace.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::trace::{Second, Trace, percent};

/// The seconds before the change that give the steady state. Reads of the last one may end after
/// the change began, so it does not count.
const STEADY: RangeInclusive<i32> = -11..=-2;
/// Length of the means that judge a change: one second of 500 reads is noisy.
const MEAN: usize = 5;
/// With a p99 above this before the change, the machine is too busy to judge it.
const BUSY: Duration = Duration::from_millis(250);
/// Shortest time after the change whose reads count as "during" it.
const LEAST_DURING: f64 = 10.0;

/// What a change did to readers and to the origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Hit ratio before the change, percent.
    pub before: f64,
    /// Hit ratio of the worst second, percent.
    pub lowest_second: f64,
    /// Lowest mean of five seconds, percent.
    pub lowest: f64,
    /// The same as the origin counts it, percent.
    pub lowest_at_origin: f64,
    /// The origin's calls per second before the change.
    pub steady_calls: f64,
    /// Highest mean of five seconds of the origin's calls, per second.
    pub most_calls: f64,
    /// Calls beyond the steady ones, up to the end of the observation.
    pub extra_calls: f64,
    /// Reads after the change.
    pub reads: u64,
    /// Failed ones, with the seconds since the change began.
    pub failures: Vec<f64>,
    /// 99th percentile of the reads' times before the change.
    pub p99_before: Duration,
    /// The same from the change's begin to its end, at least ten seconds.
    pub p99_during: Duration,
}

impl Figures {
    /// The figures of a trace that begins at least some seconds before the change.
    ///
    /// # Panics
    /// When the trace has no second before the change, or fewer than five after it.
    #[must_use]
    pub fn of(trace: &Trace) -> Self {
        let (before, after): (Vec<&Second>, Vec<&Second>) =
            trace.seconds.iter().partition(|second| second.at < 0);
        let before: Vec<&Second> =
            before.into_iter().filter(|second| STEADY.contains(&second.at)).collect();
        assert!(!before.is_empty() && after.len() >= MEAN, "the trace is too short");
        let during_end = trace.end.max(LEAST_DURING);
        let during =
            after.iter().copied().filter(|second| f64::from(second.at) < during_end).collect();
        let steady_calls = calls_per_second(&before);
        let most_calls = after.windows(MEAN).map(calls_per_second).fold(0.0, f64::max);
        let lowest = |ratio: fn(&[&Second]) -> f64| {
            after.windows(MEAN).map(ratio).fold(f64::INFINITY, f64::min)
        };
        Self {
            before: hit_percent(&before),
            lowest_second: after.iter().map(|s| s.hit_percent()).fold(f64::INFINITY, f64::min),
            lowest: lowest(hit_percent),
            lowest_at_origin: lowest(hit_percent_at_origin),
            steady_calls,
            most_calls,
            extra_calls: (calls_per_second(&after) - steady_calls) * count(&after),
            reads: after.iter().map(|second| second.times.len() as u64).sum(),
            failures: trace.failures.iter().map(|(at, _)| *at).filter(|at| *at >= 0.0).collect(),
            p99_before: p99(before),
            p99_during: p99(during),
        }
    }

    /// Whether the machine was too busy before the change: reads then fail for want of processor
    /// time.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.p99_before > BUSY
    }

    /// How far the hit ratio falls, in points: the mean of five seconds counts.
    #[must_use]
    pub fn dip(&self) -> f64 {
        (self.before - self.lowest).max(0.0)
    }

    /// The origin's highest load as a multiple of its steady one.
    #[must_use]
    pub fn origin_factor(&self) -> f64 {
        self.most_calls / self.steady_calls.max(1.0)
    }

    /// Failed reads that were due later than `after` the change's begin.
    #[must_use]
    pub fn failures_after(&self, after: Duration) -> usize {
        self.failures.iter().filter(|at| **at > after.as_secs_f64()).count()
    }
}

/// Seconds from when the time to recover counts until the hit ratio is at `floor` percent and
/// stays: no mean of five seconds is below it from there on. `None` while it is below.
#[must_use]
pub fn recovered_after(trace: &Trace, floor: f64) -> Option<f64> {
    let after: Vec<&Second> = trace.seconds.iter().filter(|second| second.at >= 0).collect();
    let low = |window: &&[&Second]| hit_percent(window) < floor;
    let last_low = after.windows(MEAN).rfind(low);
    match last_low {
        None => (after.len() >= MEAN).then_some(0.0),
        Some(window) if window.last() == after.last() => None,
        // A mean is low until its first second has left it.
        Some(window) => Some((f64::from(window[0].at + 1) - trace.recovery_from).max(0.0)),
    }
}

fn hit_percent(seconds: &[&Second]) -> f64 {
    let sum = |count: fn(&Second) -> u32| seconds.iter().map(|second| count(second)).sum();
    percent(sum(|second| second.hits), sum(|second| second.reads))
}

fn hit_percent_at_origin(seconds: &[&Second]) -> f64 {
    let sum = |count: fn(&Second) -> u32| seconds.iter().map(|second| count(second)).sum::<u32>();
    let reads = sum(|second| second.reads);
    percent(reads.saturating_sub(sum(|second| second.working_calls)), reads)
}

fn calls_per_second(seconds: &[&Second]) -> f64 {
    seconds.iter().map(|second| f64::from(second.calls)).sum::<f64>() / count(seconds)
}

#[expect(clippy::cast_precision_loss, reason = "a number of seconds")]
fn count(seconds: &[&Second]) -> f64 {
    seconds.len().max(1) as f64
}

fn p99(seconds: Vec<&Second>) -> Duration {
    let mut times: Vec<Duration> =
        seconds.into_iter().flat_map(|second| second.times.iter().copied()).collect();
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A trace of 100 reads and 10 calls for new keys per second, with so many hits in each second
    /// from -10 on.
    pub(in crate::warmth) fn trace(hits: &[u32]) -> Trace {
        let seconds = (-10..).zip(hits).map(|(at, hits)| Second {
            at,
            reads: 100,
            hits: *hits,
            calls: 10 + 100 - hits,
            working_calls: 100 - hits,
            times: vec![Duration::from_millis(if *hits < 100 { 9 } else { 1 }); 100],
            ..Second::default()
        });
        let seconds = seconds.collect();
        Trace { seconds, end: 2.0, recovery_from: 0.0, failures: Vec::new() }
    }

    fn steady_then(after: &[u32]) -> Trace {
        trace(&[&[100; 10], after].concat())
    }

    #[test]
    fn a_dip_is_the_lowest_mean_of_five_seconds() {
        let figures = Figures::of(&steady_then(&[60, 80, 100, 100, 100, 100, 100, 100, 100, 100]));
        assert!((figures.before - 100.0).abs() < 1e-9);
        assert!((figures.lowest_second - 60.0).abs() < 1e-9);
        assert!((figures.dip() - 12.0).abs() < 1e-9, "{}", figures.dip());
        assert!((figures.lowest_at_origin - 88.0).abs() < 1e-9);
        assert!((figures.origin_factor() - 2.2).abs() < 1e-9, "{}", figures.origin_factor());
        assert!((figures.extra_calls - 60.0).abs() < 1e-6, "{}", figures.extra_calls);
        assert_eq!(figures.p99_before, Duration::from_millis(1));
        assert_eq!(figures.p99_during, Duration::from_millis(9));
    }

    #[test]
    fn nothing_lost_is_no_dip_and_no_time_to_recover() {
        let trace = steady_then(&[100; 8]);
        let figures = Figures::of(&trace);
        assert!(figures.dip().abs() < 1e-9 && (figures.origin_factor() - 1.0).abs() < 1e-9);
        assert_eq!(recovered_after(&trace, 99.0), Some(0.0));
    }

    #[test]
    fn recovery_is_when_no_mean_is_below_the_floor_any_more() {
        let mut trace = steady_then(&[50, 50, 100, 100, 50, 50, 100, 100, 100, 100, 100, 100, 100]);
        // The means that begin in seconds 0 to 5 are below.
        assert_eq!(recovered_after(&trace, 95.0), Some(6.0));
        trace.recovery_from = 4.5;
        assert_eq!(recovered_after(&trace, 95.0), Some(1.5));
        assert_eq!(recovered_after(&steady_then(&[50; 20]), 95.0), None);
    }

    #[test]
    fn failures_of_the_change_itself_are_told_from_later_ones() {
        let mut trace = steady_then(&[100; 8]);
        trace.failures = [-3.0, 0.2, 0.4, 1.7].map(|at| (at, String::new())).to_vec();
        let figures = Figures::of(&trace);
        assert_eq!(figures.failures_after(Duration::ZERO), 3, "not the one before the change");
        assert_eq!(figures.failures_after(Duration::from_millis(500)), 1);
    }
}
