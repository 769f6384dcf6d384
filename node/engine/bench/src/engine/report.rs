//! The engine bench's tables and verdicts, in Markdown. Pure.

use std::fmt::Write as _;

use super::speed::{Kind, Measured, Round};
use crate::contenders::{NAMES, QUICK_CACHE};
use crate::memory::{Cost, MIXED};

/// The engine as it comes.
const OURS: &str = NAMES[0];
/// The bars.
const MOST_OVERHEAD: f64 = 100.0;
const MOST_RESIDENT: f64 = 1.15;
const MOST_ERROR_PERCENT: f64 = 5.0;
const MOST_BYTES: f64 = 1.1;

/// A row for each cache, a column for each shape of `kind`.
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
    format!("## Throughput\n\nMillions of operations a second (hit %).\n\n{table}")
}

pub(super) fn latency(names: &[&str], measured: &[Measured]) -> String {
    let cell = |round: &Round| format!("{:.0} / {:.0}", round.p50_ns, round.p999_ns);
    let table = table(names, measured, true, cell);
    format!(
        "## Latency\n\nNanoseconds of one operation, a look at the clock included: half take no \
         longer than the first figure, the slowest thousandth at least the second.\n\n{table}"
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
        "## Memory\n\nBytes of an entry in addition to key and value, from the resident memory of a \
         fresh process (resident memory ÷ budget of {} MiB).\n\n",
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

/// Speed and memory compared with quick_cache, and the engine's own count of its memory compared
/// with what is resident. Nothing where a side is missing.
pub(super) fn bars(
    names: &[&str],
    measured: &[Measured],
    costs: &[Vec<(usize, Cost)>],
    budget: u64,
) -> String {
    let mut text = String::from("## Bars\n\n");
    let place = |name: &str| names.iter().position(|other| *other == name);
    let Some(ours) = place(OURS) else { return text };
    if let Some(theirs) = place(QUICK_CACHE) {
        for Measured { shape, medians } in measured {
            let (ours, theirs) = (medians[ours], medians[theirs]);
            if shape.kind != Kind::Timed {
                let ratio = ours.mops / theirs.mops;
                let ahead = ours.hits - theirs.hits;
                let met = verdict(ratio >= 1.0 && ahead >= -0.05);
                let _ = writeln!(
                    text,
                    "- {shape}: {ratio:.2} x {QUICK_CACHE} at {ahead:+.1} points of hits: {met}"
                );
            }
        }
        for ((bytes, ours), (_, theirs)) in costs[ours].iter().zip(&costs[theirs]) {
            if *bytes != MIXED {
                let each = |cost: &Cost| cost.resident as f64 / cost.entries as f64;
                let ratio = each(ours) / each(theirs);
                let (size, met) = (size(*bytes), verdict(ratio <= MOST_BYTES));
                let _ = writeln!(
                    text,
                    "- bytes per entry at {size}: {ratio:.2} x {QUICK_CACHE} (bar: \
                     {MOST_BYTES}): {met}"
                );
            }
        }
    }
    for (bytes, cost) in &costs[ours] {
        let _ = writeln!(text, "{}", counted_truly(*bytes, cost, budget));
    }
    text
}

/// The memory of entries of one size.
fn counted_truly(bytes: usize, cost: &Cost, budget: u64) -> String {
    let (resident, charged) = (cost.resident as f64, cost.charged as f64);
    let part = resident / budget as f64;
    let error = (charged / resident - 1.0) * 100.0;
    let mut held = part <= MOST_RESIDENT && error.abs() <= MOST_ERROR_PERCENT;
    let mut line = format!("- values of {}: ", size(bytes));
    if bytes != MIXED {
        let overhead = cost.overhead(bytes);
        held &= overhead <= MOST_OVERHEAD;
        let _ =
            write!(line, "{overhead:.0} B in addition to key and value (bar: {MOST_OVERHEAD}), ");
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
    fn faster_at_fewer_hits_does_not_meet_the_bar() {
        let round = |mops, hits| Round { mops, hits, ..Round::default() };
        let cost = Cost { entries: 10, resident: 1_000, charged: 1_000 };
        let costs = vec![vec![(64, cost)], vec![(64, cost)]];
        let names = [OURS, QUICK_CACHE];
        let said = |ours, theirs| {
            let shape = Shape { kind: Kind::Fill, skew: 0.99, threads: 1 };
            let measured = [Measured { shape, medians: vec![ours, theirs] }];
            bars(&names, &measured, &costs, 1_000)
        };
        assert!(said(round(9.0, 80.0), round(8.0, 79.0)).contains("+1.0 points of hits: met"));
        assert!(said(round(9.0, 78.0), round(8.0, 79.0)).contains("-1.0 points of hits: NOT met"));
        assert!(said(round(7.0, 80.0), round(8.0, 79.0)).contains("0.88 x quick_cache"));
    }

    #[test]
    fn each_bar_of_true_counting_can_be_missed() {
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
