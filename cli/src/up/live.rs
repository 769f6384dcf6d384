//! The live line: requests, hit ratio, origin loads, from the members' own counters.

use larder_client::Client;
use tokio::time::Instant;

use super::screen::Screen;
use crate::totals::Totals;

#[derive(Default)]
pub(super) struct Live {
    last: Option<(Totals, Instant)>,
}

impl Live {
    /// Asks the members and shows the line.
    pub(super) async fn update(&mut self, client: &Client, screen: &Screen) -> anyhow::Result<()> {
        let totals = totals(client).await;
        let now = Instant::now();
        screen.live(line(&totals, self.rate(&totals, now)), self.is_new(&totals))?;
        self.last = Some((totals, now));
        Ok(())
    }

    fn is_new(&self, totals: &Totals) -> bool {
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

async fn totals(client: &Client) -> Totals {
    let members = client.status().await.unwrap_or_default();
    let up = members.iter().filter_map(|m| m.answer.as_ref().ok());
    Totals::of(up.flat_map(|s| &s.groups))
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
    fn the_line_shows_requests_hit_ratio_and_loads() {
        let totals = Totals { hits: 90, stale: 5, misses: 5, loads: 5, ..Totals::default() };
        assert_eq!(line(&totals, 12.4), "requests 100 (12/s)   hit ratio 95.0 %   origin loads 5");
        let failing = Totals { load_errors: 2, ..totals };
        assert!(line(&failing, 0.0).ends_with("origin loads 5, 2 failed"));
        assert!(line(&Totals::default(), 0.0).contains("hit ratio -"));
    }
}
