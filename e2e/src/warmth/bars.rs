//! The promises W1 to W7: what each change may cost, and what it cost at the first landing.

use std::fmt::Write as _;
use std::time::Duration;

use super::figures::{Figures, recovered_after};
use super::trace::Trace;

/// The bar of one change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Number of the promise.
    pub name: &'static str,
    /// The change.
    pub change: &'static str,
    /// Hit ratio before, and lowest, when the promise was first measured.
    pub first_landing: &'static str,
    /// The hit ratio falls by less than so many points.
    pub dip: Option<f64>,
    /// The origin's load stays below this multiple of its steady one.
    pub origin_factor: Option<f64>,
    /// When the hit ratio counts as recovered.
    pub floor: Floor,
    /// It has recovered within this time.
    pub recovery: Option<Duration>,
    /// No read fails that was due later than this after the change began.
    pub failures_end: Option<Duration>,
}

/// A hit ratio, relative to that before the change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Floor {
    /// So many points below it.
    Points(f64),
    /// So many percent of it.
    Percent(f64),
}

impl Floor {
    /// The ratio in percent.
    #[must_use]
    pub fn of(self, before: f64) -> f64 {
        match self {
            Self::Points(points) => before - points,
            Self::Percent(percent) => before * percent / 100.0,
        }
    }
}

/// A change by plan: nothing is lost.
const PLANNED: Bar = Bar {
    name: "",
    change: "",
    first_landing: "",
    dip: Some(1.0),
    origin_factor: Some(1.1),
    floor: Floor::Points(1.0),
    recovery: None,
    failures_end: Some(Duration::ZERO),
};

/// An accident: little is lost, and not for long.
const ACCIDENT: Bar = Bar {
    dip: Some(5.0),
    origin_factor: None,
    floor: Floor::Points(5.0),
    recovery: Some(Duration::from_secs(10)),
    failures_end: Some(Duration::from_millis(500)),
    ..PLANNED
};

/// A start whose bar is only the time to recover, counted from the first Ready.
const START: Bar = Bar { dip: None, origin_factor: None, failures_end: None, ..PLANNED };

/// The bars, in order.
pub const BARS: [Bar; 7] = [
    Bar {
        name: "W1",
        change: "rolling change of spec.memory",
        first_landing: "92 → 64 %, minutes to recover",
        ..PLANNED
    },
    Bar { name: "W2", change: "3 → 4 → 3 members", first_landing: "83 → 79 %", ..PLANNED },
    Bar { name: "W3", change: "Kubernetes node drained", first_landing: "90 → 72 %", ..PLANNED },
    Bar {
        name: "W4", change: "member killed (SIGKILL)", first_landing: "100 → 84 %", ..ACCIDENT
    },
    Bar {
        name: "W5",
        change: "Kubernetes node dead",
        first_landing: "91 → 69 %, errors for 2 s",
        ..ACCIDENT
    },
    Bar {
        name: "W6",
        change: "all members killed, then up",
        first_landing: "→ 54 %",
        floor: Floor::Percent(90.0),
        recovery: Some(Duration::from_secs(10)),
        ..START
    },
    Bar {
        name: "W7",
        change: "container restarts in place (SIGTERM)",
        first_landing: "cold",
        floor: Floor::Percent(99.0),
        recovery: Some(Duration::from_secs(2)),
        ..START
    },
];

impl Bar {
    /// The bar of a promise.
    #[must_use]
    pub fn of(name: &str) -> Option<&'static Self> {
        BARS.iter().find(|bar| bar.name == name)
    }

    /// Seconds until the hit ratio was back, if it was.
    #[must_use]
    pub fn recovered_after(&self, trace: &Trace, before: f64) -> Option<f64> {
        recovered_after(trace, self.floor.of(before))
    }

    /// What misses the bar; empty when it is met.
    #[must_use]
    pub fn misses(&self, trace: &Trace, figures: &Figures) -> Vec<String> {
        let mut misses = Vec::new();
        if let Some(bar) = self.dip.filter(|bar| figures.dip() >= *bar) {
            misses.push(format!("dip {:.1} points (bar: below {bar})", figures.dip()));
        }
        if let Some(bar) = self.origin_factor.filter(|bar| figures.origin_factor() >= *bar) {
            misses.push(format!("origin {:.2} x (bar: below {bar})", figures.origin_factor()));
        }
        let recovered = self.recovered_after(trace, figures.before);
        if let Some(bar) = self.recovery.map(|bar| bar.as_secs_f64())
            && recovered.is_none_or(|after| after > bar)
        {
            misses.push(format!("back after {} (bar: {bar} s)", seconds(recovered, trace)));
        }
        if let Some(end) = self.failures_end
            && figures.failures_after(end) > 0
        {
            let late = figures.failures_after(end);
            misses.push(format!("{late} reads failed after {:.1} s", end.as_secs_f64()));
        }
        misses
    }

    /// The row of [`HEAD`]. `load` is the machine's load average.
    #[must_use]
    pub fn row(&self, trace: &Trace, figures: &Figures, load: &str) -> String {
        let misses = self.misses(trace, figures).join(", ");
        let verdict = match misses.as_str() {
            _ if figures.is_busy() => "not judged: the machine was too busy".to_owned(),
            "" => "met".to_owned(),
            misses => format!("**missed**: {misses}"),
        };
        let mut row = String::new();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let _ = writeln!(
            row,
            "| {} | {} | {} | {:.1} → {:.1} | {:.1} | {:.1} | {} | {:.0} → {:.0} ({:.1} x) | \
             {:.0} | {} of {} | {:.0} → {:.0} ({:.1} x) | {load} | {verdict} |",
            self.name,
            self.change,
            self.first_landing,
            figures.before,
            figures.lowest,
            figures.lowest_second,
            figures.lowest_at_origin,
            seconds(self.recovered_after(trace, figures.before), trace),
            figures.steady_calls,
            figures.most_calls,
            figures.origin_factor(),
            figures.extra_calls,
            figures.failures.len(),
            figures.reads,
            ms(figures.p99_before),
            ms(figures.p99_during),
            figures.p99_during.as_secs_f64() / figures.p99_before.as_secs_f64().max(1e-6),
        );
        row
    }
}

/// The head of the table.
pub const HEAD: &str = "\
| # | Change | First landing | Hit %, before → lowest 5 s | Lowest second | \
Lowest 5 s at the origin | Back after | Origin calls/s, steady → highest 5 s | Extra calls | \
Failed reads | p99 ms, before → during | Load average | Bar |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
";

fn seconds(recovered: Option<f64>, trace: &Trace) -> String {
    let observed = trace.seconds.last().map_or(0, |second| second.at + 1);
    recovered.map_or_else(|| format!("more than {observed} s"), |after| format!("{after:.1} s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warmth::figures::tests::trace;

    fn misses(bar: &str, after: &[u32]) -> Vec<String> {
        let trace = trace(&[&[100; 10], after].concat());
        Bar::of(bar).expect("a bar").misses(&trace, &Figures::of(&trace))
    }

    #[test]
    fn a_planned_change_that_loses_nothing_meets_its_bar() {
        assert!(misses("W1", &[100; 20]).is_empty());
    }

    #[test]
    fn todays_losses_miss_every_bar() {
        let cold = [40; 20];
        for bar in &BARS {
            assert!(!misses(bar.name, &cold).is_empty(), "{}", bar.name);
        }
        let [dip, origin] = &misses("W1", &[95; 20])[..] else { panic!("two misses") };
        assert_eq!(dip, "dip 5.0 points (bar: below 1)");
        assert_eq!(origin, "origin 1.50 x (bar: below 1.1)");
    }

    #[test]
    fn an_accident_may_cost_a_little_for_a_short_time() {
        assert!(misses("W4", &[&[80; 1][..], &[100; 20]].concat()).is_empty(), "4 points");
        assert_eq!(misses("W4", &[&[70; 1][..], &[100; 20]].concat()).len(), 1, "6 points");
        assert_eq!(misses("W4", &[&[70; 12][..], &[100; 20]].concat()).len(), 2, "12 seconds");
    }

    #[test]
    fn a_start_is_judged_by_its_time_alone() {
        assert!(misses("W6", &[&[0; 10][..], &[95; 20]].concat()).is_empty());
        assert_eq!(misses("W6", &[&[0; 11][..], &[95; 20]].concat()).len(), 1);
        assert_eq!(misses("W7", &[&[0; 3][..], &[100; 20]].concat()).len(), 1);
    }

    #[test]
    fn a_change_on_a_busy_machine_is_not_judged() {
        let mut trace = trace(&[&[100; 10][..], &[60; 10]].concat());
        let verdict = |trace: &Trace| BARS[0].row(trace, &Figures::of(trace), "30");
        assert!(verdict(&trace).contains("missed"));
        for second in &mut trace.seconds {
            second.times.fill(Duration::from_millis(300));
        }
        assert!(verdict(&trace).contains("not judged"), "{}", verdict(&trace));
    }

    #[test]
    fn a_row_has_a_cell_for_every_column() {
        let trace = trace(&[&[100; 10][..], &[60; 10]].concat());
        let row = BARS[0].row(&trace, &Figures::of(&trace), "0.5");
        let head = HEAD.lines().next().expect("a head");
        assert_eq!(row.matches('|').count(), head.matches('|').count(), "{row}");
        assert!(row.contains("100.0 → 60.0") && row.contains("more than 10 s"), "{row}");
    }
}
