//! What happened in each second around a change.

use std::time::{Duration, Instant};

use super::load::{End, Read};
use super::origin::Call;

/// When a change took place.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// It began.
    pub begin: Instant,
    /// Everything runs again as it should.
    pub end: Instant,
    /// From when the time to recover counts.
    pub recovery_from: Instant,
}

/// The reads and the origin's calls by second, from the first whole second of the load to its end.
/// Second 0 begins with the change.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The seconds, in order.
    pub seconds: Vec<Second>,
    /// Second in which the change ended.
    pub end: f64,
    /// Second from which the time to recover counts.
    pub recovery_from: f64,
    /// The errors, with the time since the change began.
    pub failures: Vec<(f64, String)>,
}

/// One second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Second {
    /// Its number.
    pub at: i32,
    /// Reads of the working set.
    pub reads: u32,
    /// Those that the cache answered.
    pub hits: u32,
    /// Failed reads of any key.
    pub failed: u32,
    /// Calls that arrived at the origin.
    pub calls: u32,
    /// Those for keys of the working set.
    pub working_calls: u32,
    /// Times of all reads that were due in this second, sorted.
    pub times: Vec<Duration>,
}

impl Second {
    /// Share of the working set's reads that the cache answered, percent. A failed read is no hit.
    #[must_use]
    pub fn hit_percent(&self) -> f64 {
        percent(self.hits, self.reads)
    }

    /// The same as the origin counts it: the reads that caused no call.
    #[must_use]
    pub fn hit_percent_at_origin(&self) -> f64 {
        percent(self.reads.saturating_sub(self.working_calls), self.reads)
    }
}

/// `part` of `whole` in percent, for a whole that may be 0.
pub(super) fn percent(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { f64::from(part) * 100.0 / f64::from(whole) }
}

impl Trace {
    /// `reads` are all that were due before `until`, `calls` all that arrived before it.
    ///
    /// # Panics
    /// When there is no read before the change.
    #[must_use]
    pub fn new(reads: &[Read], calls: &[Call], change: &Change, until: Instant) -> Self {
        let first = reads.iter().map(|read| read.due).min().expect("there are reads");
        let whole = |time: Duration| i32::try_from(time.as_secs()).expect("shorter than years");
        let (from, to) = (-whole(change.begin - first), whole(until - change.begin));
        let mut seconds: Vec<Second> =
            (from..to).map(|at| Second { at, ..Second::default() }).collect();
        let since = |at: Instant| since(at, change.begin);
        let mut failures = Vec::new();
        for read in reads {
            let Some(second) = second(&mut seconds, from, since(read.due)) else { continue };
            second.times.push(read.took);
            if !read.is_new {
                second.reads += 1;
                second.hits += u32::from(read.end == End::Hit);
            }
            if let End::Failed(error) = &read.end {
                second.failed += 1;
                failures.push((since(read.due), error.clone()));
            }
        }
        for call in calls {
            let Some(second) = second(&mut seconds, from, since(call.at)) else { continue };
            second.calls += 1;
            second.working_calls += u32::from(!call.is_new);
        }
        seconds.iter_mut().for_each(|second| second.times.sort_unstable());
        failures.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (end, recovery_from) = (since(change.end), since(change.recovery_from));
        Self { seconds, end, recovery_from, failures }
    }
}

/// Seconds from `begin` to `at`, negative before it.
fn since(at: Instant, begin: Instant) -> f64 {
    match at.checked_duration_since(begin) {
        Some(time) => time.as_secs_f64(),
        None => -(begin - at).as_secs_f64(),
    }
}

fn second(seconds: &mut [Second], from: i32, at: f64) -> Option<&mut Second> {
    #[expect(clippy::cast_possible_truncation, reason = "shorter than years")]
    let place = (at.floor() as i32).checked_sub(from)?;
    seconds.get_mut(usize::try_from(place).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_calls_fall_into_seconds_that_begin_with_the_change() {
        let begin = Instant::now() + Duration::from_secs(100);
        let at = |ms: i64| {
            let time = Duration::from_millis(ms.unsigned_abs());
            if ms < 0 { begin - time } else { begin + time }
        };
        let read =
            |ms, is_new, end| Read { due: at(ms), took: Duration::from_millis(1), is_new, end };
        let failed = || End::Failed("refused".into());
        let reads = [
            read(-1_500, false, End::Hit),
            read(-1, false, End::Hit),
            read(0, false, End::Loaded),
            read(10, true, End::Loaded),
            read(999, false, failed()),
            read(1_000, false, End::Hit),
            read(2_001, false, End::Hit),
        ];
        let calls = [(-1, false), (1, false), (2, true), (2_500, true)];
        let calls = calls.map(|(ms, is_new)| Call { at: at(ms), is_new });
        let change = Change { begin, end: at(1_500), recovery_from: begin };
        let trace = Trace::new(&reads, &calls, &change, at(2_100));
        let counts: Vec<_> = trace
            .seconds
            .iter()
            .map(|s| (s.at, s.reads, s.hits, s.failed, s.calls, s.working_calls))
            .collect();
        // The first and the last second are not whole and left out.
        assert_eq!(counts, [(-1, 1, 1, 0, 1, 1), (0, 2, 0, 1, 2, 1), (1, 1, 1, 0, 0, 0)]);
        assert_eq!(trace.seconds[1].times.len(), 3, "new keys have times too");
        assert_eq!(trace.failures, [(0.999, "refused".to_owned())]);
        assert!((trace.end - 1.5).abs() < 1e-9, "{}", trace.end);
    }
}
