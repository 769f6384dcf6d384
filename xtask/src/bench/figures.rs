//! What runs gave: medians, the table, the ratios against the bars. Pure.

use std::fmt::{self, Write as _};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::page::MOST_FOREIGN_PERCENT;

/// How a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Connections.
    pub(crate) connections: u32,
    /// Requests in flight on each.
    pub(crate) depth: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}x{}", self.connections, self.depth)
    }
}

/// What one run of the generator says.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub(crate) struct Run {
    /// Replies a second.
    pub(crate) operations_per_second: f64,
    /// Server's processor time a request, microseconds.
    pub(crate) server_us: f64,
    /// Generator's processor time a request, microseconds.
    pub(crate) client_us: f64,
    /// Median time from request to reply, microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile of the same, microseconds.
    pub(crate) p99_us: f64,
    /// What everything else on the machine used, percent of it.
    pub(crate) foreign_percent: f64,
}

impl Run {
    /// Reads the generator's line.
    ///
    /// # Errors
    /// When it is no such line.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        serde_json::from_str(line).with_context(|| format!("the generator said {line:?}"))
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Which server.
    pub(crate) server: &'static str,
    /// How it was asked.
    pub(crate) shape: Shape,
    /// Its median run.
    pub(crate) median: Run,
}

/// The run in the middle by the server's time a request: figures of one run stay together.
pub(crate) fn median(mut runs: Vec<Run>) -> Option<Run> {
    runs.sort_by(|a, b| a.server_us.total_cmp(&b.server_us));
    let middle = runs.len() / 2;
    runs.into_iter().nth(middle)
}

/// What else ran meanwhile, percent of the machine, when it is more than figures can bear.
pub(crate) fn disturbance(rows: &[Row]) -> Option<f64> {
    let worst = rows.iter().map(|row| row.median.foreign_percent).fold(0.0, f64::max);
    (worst > MOST_FOREIGN_PERCENT).then_some(worst)
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

/// The ratios that the promises bound, each with its bars.
pub(crate) fn ratios(rows: &[Row]) -> String {
    let mut text = String::new();
    for (promise, against, shape, on_the_way, in_the_end) in [
        ("P1", super::servers::MEMCACHED, "50x1", 1.8, 0.9),
        ("P2", super::servers::ECHO, "8x8", 0.85, 0.25),
    ] {
        let us = |server: &str| {
            let row =
                rows.iter().find(|row| row.server == server && row.shape.to_string() == shape);
            row.map(|row| row.median.server_us)
        };
        if let (Some(ours), Some(theirs)) = (us(super::servers::MEMBER), us(against)) {
            let ratio = ours / theirs;
            let verdict = if ratio <= in_the_end {
                "met in the end"
            } else if ratio <= on_the_way {
                "met on the way"
            } else {
                "NOT met"
            };
            let _ = writeln!(
                text,
                "- {promise}: {ratio:.2} x {against} at {shape} (bars: {on_the_way} on the way, \
                 {in_the_end} in the end): {verdict}"
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
        assert_eq!(disturbance(&[row(run(5.0)), row(busy)]), Some(30.0));
        assert_eq!(disturbance(&[row(run(5.0))]), None);
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
        assert!(text.contains("P1: 1.50 x memcached at 50x1") && text.contains("met on the way"));
        assert!(
            text.contains("P2: 1.00 x tonic echo at 8x8") && text.contains("NOT met"),
            "{text}"
        );
    }
}
