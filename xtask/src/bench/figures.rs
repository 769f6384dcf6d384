//! Evaluates runs: medians, the table, the ratios against their bars. Pure.

use std::fmt::{self, Write as _};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::page::MAX_OTHER_PERCENT;

/// The load on a server: connections, and requests in flight on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) connections: u32,
    pub(crate) depth: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}x{}", self.connections, self.depth)
    }
}

/// The figures of one run, as the generator prints them.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct Run {
    /// Replies per second.
    pub(crate) operations_per_second: f64,
    /// Server's processor time per request, microseconds.
    pub(crate) server_us: f64,
    /// Generator's processor time per request, microseconds.
    pub(crate) client_us: f64,
    /// Median time from request to reply, microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile of the same, microseconds.
    pub(crate) p99_us: f64,
    /// Processor time of all other processes, percent of the machine.
    pub(crate) foreign_percent: f64,
}

impl Run {
    /// Reads the generator's line.
    ///
    /// # Errors
    /// When the line has another form.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| format!("the generator printed {line:?}"))
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) server: &'static str,
    pub(crate) shape: Shape,
    pub(crate) median: Run,
}

/// The run whose server time per request is the median, so that all figures come from one run.
pub(crate) fn median(mut runs: Vec<Run>) -> Option<Run> {
    runs.sort_by(|a, b| a.server_us.total_cmp(&b.server_us));
    let middle = runs.len() / 2;
    runs.into_iter().nth(middle)
}

/// The other load, percent of the machine, when it is too high for the figures to mean something.
pub(crate) fn excessive_other_load(rows: &[Row]) -> Option<f64> {
    let worst = rows.iter().map(|row| row.median.foreign_percent).fold(0.0, f64::max);
    (worst > MAX_OTHER_PERCENT).then_some(worst)
}

/// The table, in Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| server | shape | server us/request | requests/s | p50 us | p99 us | generator us | foreign % |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for Row { server, shape, median: run } in rows {
        let _ = writeln!(
            text,
            "| {server} | {shape} | {:.2} | {:.0} | {:.0} | {:.0} | {:.2} | {:.0} |",
            run.server_us,
            run.operations_per_second,
            run.p50_us,
            run.p99_us,
            run.client_us,
            run.foreign_percent,
        );
    }
    text
}

/// The ratios that have a bar, each with its interim and its final one.
pub(crate) fn ratios(rows: &[Row]) -> String {
    let mut text = String::new();
    for (name, against, shape, interim_bar, final_bar) in [
        ("P1", super::servers::MEMCACHED, "50x1", 1.8, 0.9),
        ("P2", super::servers::ECHO, "8x8", 0.85, 0.25),
    ] {
        let us = |server: &str| {
            let row =
                rows.iter().find(|row| row.server == server && row.shape.to_string() == shape);
            row.map(|row| row.median.server_us)
        };
        if let (Some(member), Some(other)) = (us(super::servers::MEMBER), us(against)) {
            let ratio = member / other;
            let verdict = if ratio <= final_bar {
                "final bar met"
            } else if ratio <= interim_bar {
                "interim bar met"
            } else {
                "NOT met"
            };
            let _ = writeln!(
                text,
                "- {name}: {ratio:.2} x {against} at {shape} (bars: {interim_bar} interim, \
                 {final_bar} final): {verdict}"
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::servers::{ECHO, MEMBER, MEMCACHED};

    fn run(server_us: f64) -> Run {
        Run {
            operations_per_second: 1e6 / server_us,
            server_us,
            client_us: 1.0,
            p50_us: 2.0,
            p99_us: 3.0,
            foreign_percent: 0.0,
        }
    }

    #[test]
    fn one_disturbed_run_of_three_does_not_count() {
        assert_eq!(median(vec![run(5.0), run(90.0), run(6.0)]), Some(run(6.0)));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn a_busy_machine_is_noticed() {
        let shape = Shape { connections: 1, depth: 1 };
        let busy = Run { foreign_percent: 30.0, ..run(5.0) };
        let row = |median| Row { server: MEMBER, shape, median };
        assert_eq!(excessive_other_load(&[row(run(5.0)), row(busy)]), Some(30.0));
        assert_eq!(excessive_other_load(&[row(run(5.0))]), None);
    }

    #[test]
    fn ratios_name_the_bar_that_they_meet() {
        let row = |server, connections, depth, us| Row {
            server,
            shape: Shape { connections, depth },
            median: run(us),
        };
        let rows = [
            row(MEMBER, 50, 1, 9.0),
            row(MEMCACHED, 50, 1, 6.0),
            row(MEMBER, 8, 8, 7.0),
            row(ECHO, 8, 8, 7.0),
        ];
        let text = ratios(&rows);
        assert!(text.contains("P1: 1.50 x memcached at 50x1") && text.contains("interim bar met"));
        assert!(
            text.contains("P2: 1.00 x tonic echo at 8x8") && text.contains("NOT met"),
            "{text}"
        );
    }
}
