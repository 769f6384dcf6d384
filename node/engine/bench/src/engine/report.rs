//! The tables and verdicts of the engine bench in Markdown. Pure.

use std::fmt::Write as _;

use super::speed::{Kind, Measured, Round};
use crate::contenders::{NAMES, QUICK_CACHE};
use crate::memory::{Cost, MIXED};

/// The engine with its default policy.
const LARDER: &str = NAMES[0];
/// Targets: bytes per entry in addition to key and value, resident memory in multiples of the
/// budget, error of the charged bytes, and bytes per entry in multiples of quick_cache.
const MOST_OVERHEAD: f64 = 100.0;
const MOST_RESIDENT: f64 = 1.15;
const MOST_ERROR_PERCENT: f64 = 5.0;
const MOST_BYTES: f64 = 1.1;

/// A row for each cache and a column for each shape that is or is not `timed`.
fn table(
    names: &[&str],
    measured: &[Measured],
    timed: bool,
    cell: impl Fn(&Round) -> String,
) -> String {
    let wanted = |measured: &&Measured| (measured.shape.kind == Kind::Timed) == timed;
    let shapes: Vec<&Measured> = measured.iter().filter(wanted).collect();
    let heads: Vec<String> = shapes.iter().map(|measured| measured.shape.to_string()).collect();
    let mut text = format!("| | {} |\n|---|{}\n", heads.join(" | "), "---:|".repeat(heads.len()));
    for (at, name) in names.iter().enumerate() {
        let cells: Vec<String> =
            shapes.iter().map(|measured| cell(&measured.medians[at])).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}

pub(super) fn throughput(names: &[&str], measured: &[Measured]) -> String {
    let cell = |round: &Round| format!("{:.2} ({:.1})", round.mops, round.hits);
    let table = table(names, measured, false, cell);
    format!("## Throughput\n\nMillions of operations per second (hit %).\n\n{table}")
}

pub(super) fn latency(names: &[&str], measured: &[Measured]) -> String {
    let cell = |round: &Round| format!("{:.0} / {:.0}", round.p50_ns, round.p999_ns);
    let table = table(names, measured, true, cell);
    format!(
        "## Latency\n\nNanoseconds per operation, including one clock reading: median / 99.9th \
         percentile.\n\n{table}"
    )
}

fn size(value_bytes: usize) -> String {
    match value_bytes {
        MIXED => "64 B to 64 KiB mixed".into(),
        64..1024 => format!("{value_bytes} B"),
        _ => format!("{} KiB", value_bytes >> 10),
    }
}

pub(super) fn memory(names: &[&str], costs: &[Vec<(usize, Cost)>], budget: u64) -> String {
    let mut text = format!(
        "## Memory\n\nBytes per entry in addition to key and value, from the resident memory of a \
         new process (resident memory ÷ budget of {} MiB).\n\n",
        budget >> 20
    );
    let sizes = costs.first().map_or(&[][..], Vec::as_slice);
    let heads: Vec<String> = sizes.iter().map(|&(bytes, _)| size(bytes)).collect();
    let _ = writeln!(text, "| | {} |\n|---|{}", heads.join(" | "), "---:|".repeat(heads.len()));
    for (name, costs) in names.iter().zip(costs) {
        let cell = |&(bytes, cost): &(usize, Cost)| {
            let part = cost.resident as f64 / budget as f64;
            if bytes == MIXED {
                format!("({part:.2})")
            } else {
                format!("{:.0} ({part:.2})", cost.overhead(bytes))
            }
        };
        let cells: Vec<String> = costs.iter().map(cell).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text
}

fn verdict(held: bool) -> &'static str {
    if held { "met" } else { "NOT met" }
}

/// Compares speed and memory with quick_cache, and the charged bytes with the resident memory.
/// Omits comparisons whose caches were not measured.
pub(super) fn bars(
    names: &[&str],
    measured: &[Measured],
    costs: &[Vec<(usize, Cost)>],
    budget: u64,
) -> String {
    let mut text = String::from("## Bars\n\n");
    let place = |name: &str| names.iter().position(|other| *other == name);
    let Some(larder) = place(LARDER) else { return text };
    if let Some(reference) = place(QUICK_CACHE) {
        for Measured { shape, medians } in measured {
            let (larder, reference) = (medians[larder], medians[reference]);
            if shape.kind != Kind::Timed {
                let ratio = larder.mops / reference.mops;
                let ahead = larder.hits - reference.hits;
                let met = verdict(ratio >= 1.0 && ahead >= -0.05);
                let _ = writeln!(
                    text,
                    "- Speed, {shape}: {ratio:.2} x {QUICK_CACHE} at {ahead:+.1} points of hits: \
                     {met}"
                );
            }
        }
        for ((bytes, larder), (_, reference)) in costs[larder].iter().zip(&costs[reference]) {
            if *bytes != MIXED {
                let each = |cost: &Cost| cost.resident as f64 / cost.entries as f64;
                let ratio = each(larder) / each(reference);
                let (size, met) = (size(*bytes), verdict(ratio <= MOST_BYTES));
                let _ = writeln!(
                    text,
                    "- Memory, bytes per entry at {size}: {ratio:.2} x {QUICK_CACHE} (bar: \
                     {MOST_BYTES}): {met}"
                );
            }
        }
    }
    for (bytes, cost) in &costs[larder] {
        let _ = writeln!(text, "{}", counted_truly(*bytes, cost, budget));
    }
    text
}

/// Compares charged bytes, resident memory and budget for one size.
fn counted_truly(bytes: usize, cost: &Cost, budget: u64) -> String {
    let (resident, charged) = (cost.resident as f64, cost.charged as f64);
    let part = resident / budget as f64;
    let error = (charged / resident - 1.0) * 100.0;
    let mut held = part <= MOST_RESIDENT && error.abs() <= MOST_ERROR_PERCENT;
    let mut line = format!("- Accounting, values of {}: ", size(bytes));
    if bytes != MIXED {
        let overhead = cost.overhead(bytes);
        held &= overhead <= MOST_OVERHEAD;
        let _ = write!(line, "{overhead:.0} B besides key and value (bar: {MOST_OVERHEAD}), ");
    }
    let _ = write!(
        line,
        "resident {part:.2} x budget (bar: {MOST_RESIDENT}), charged {error:+.1} % of resident \
         (bar: {MOST_ERROR_PERCENT}): {}",
        verdict(held)
    );
    line
}

#[cfg(test)]
mod tests {
    use super::super::speed::Shape;
    use super::*;

    #[test]
    fn a_higher_speed_with_fewer_hits_does_not_meet_the_target() {
        let round = |mops, hits| Round { mops, hits, ..Round::default() };
        let cost = Cost { entries: 10, resident: 1_000, charged: 1_000 };
        let costs = vec![vec![(64, cost)], vec![(64, cost)]];
        let names = [LARDER, QUICK_CACHE];
        let report = |larder, reference| {
            let shape = Shape { kind: Kind::Fill, skew: 0.99, threads: 1 };
            let measured = [Measured { shape, medians: vec![larder, reference] }];
            bars(&names, &measured, &costs, 1_000)
        };
        let round_8_79 = round(8.0, 79.0);
        assert!(report(round(9.0, 80.0), round_8_79).contains("+1.0 points of hits: met"));
        assert!(report(round(9.0, 78.0), round_8_79).contains("-1.0 points of hits: NOT met"));
        assert!(report(round(7.0, 80.0), round_8_79).contains("0.88 x quick_cache"));
    }

    #[test]
    fn each_target_of_the_accounting_can_be_missed() {
        let cost = Cost { entries: 10, resident: 1_000, charged: 1_000 };
        assert!(counted_truly(64, &cost, 1_000).ends_with(": met"));
        for missed in [
            counted_truly(64, &cost, 800),
            counted_truly(64, &Cost { charged: 940, ..cost }, 1_000),
            counted_truly(64, &Cost { entries: 5, ..cost }, 1_000),
        ] {
            assert!(missed.ends_with("NOT met"), "{missed}");
        }
    }
}
