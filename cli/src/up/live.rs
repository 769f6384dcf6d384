//! The live line: requests, hit ratio, origin loads, from the members' own counters.

use std::io::IsTerminal;
use std::time::Duration;

use larder_client::Client;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::output::print;
use crate::status::Totals;

/// A terminal's line is written again this often.
const TERMINAL: Duration = Duration::from_secs(1);
/// A log gets a line at most this often, and only when something changed.
const LOG: Duration = Duration::from_secs(10);

pub(super) struct Live {
    client: Client,
    terminal: bool,
    last: Option<(Totals, Instant)>,
}

impl Live {
    pub(super) fn new(client: Client) -> Self {
        Self { client, terminal: std::io::stdout().is_terminal(), last: None }
    }

    /// Writes lines until it is dropped.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let mut ticks = interval(if self.terminal { TERMINAL } else { LOG });
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let totals = self.totals().await;
            let now = Instant::now();
            if self.terminal {
                // Back to the line's start, the rest of it cleared.
                print(format!("\r{}\x1b[K", line(&totals, self.rate(&totals, now))))?;
            } else if self.is_news(&totals) {
                print(format!("{}\n", line(&totals, self.rate(&totals, now))))?;
            }
            self.last = Some((totals, now));
        }
    }

    async fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let told = self.client.status().await.unwrap_or_default();
        let up = told.iter().filter_map(|m| m.answer.as_ref().ok());
        up.flat_map(|s| &s.groups).for_each(|group| totals.add(group));
        totals
    }

    fn is_news(&self, totals: &Totals) -> bool {
        let reads = |t: &Totals| (t.reads(), t.loads, t.load_errors);
        match &self.last {
            Some((last, _)) => reads(last) != reads(totals),
            None => totals.reads() > 0,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
    fn rate(&self, totals: &Totals, now: Instant) -> f64 {
        let Some((last, at)) = &self.last else { return 0.0 };
        let seconds = (now - *at).as_secs_f64().max(0.001);
        totals.reads().saturating_sub(last.reads()) as f64 / seconds
    }
}

fn line(totals: &Totals, rate: f64) -> String {
    let errors = match totals.load_errors {
        0 => String::new(),
        errors => format!(", {errors} failed"),
    };
    format!(
        "requests {} ({rate:.0}/s)   hit ratio {}   origin loads {}{errors}",
        totals.reads(),
        totals.hit_ratio(),
        totals.loads,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_requests_hit_ratio_and_loads() {
        let totals = Totals { hits: 90, stale: 5, misses: 5, loads: 5, ..Totals::default() };
        assert_eq!(line(&totals, 12.4), "requests 100 (12/s)   hit ratio 95.0 %   origin loads 5");
        let failing = Totals { load_errors: 2, ..totals };
        assert!(line(&failing, 0.0).ends_with("origin loads 5, 2 failed"));
        assert!(line(&Totals::default(), 0.0).contains("hit ratio -"));
    }
}
