//! `larder status`: the whole cluster on one screen, from what every member reports.

mod screen;

use std::io::{IsTerminal, stdout};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use larder_client::{Client, MemberAnswer, StatusResponse};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::screen::{as_json, as_text, reads};
use crate::connect::{Connection, runtime, seconds};
use crate::exit::{self, Failed};
use crate::output::{Output, Report, print, print_failure};
use crate::signals::run_until_stopped;
use crate::table::terminal_width;

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Show it again and again until Ctrl-C, with the rate of reads
    #[arg(long, short)]
    watch: bool,

    /// Seconds between two screens of --watch
    #[arg(
        long,
        default_value = "2",
        value_name = "SECONDS",
        value_parser = seconds,
        requires = "watch"
    )]
    interval: Duration,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    connection: Connection,
}

impl Status {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let client = self.connection.cluster()?;
        if !self.watch {
            let members = runtime()?.block_on(members(&client))?;
            return Ok(report(&members, None));
        }
        let stop = CancellationToken::new();
        let watch = self.show_until(&stop, &client);
        match runtime()?.block_on(run_until_stopped(&stop, watch))? {
            Ok(ended) => ended.map(|()| Report::printed(exit::OK)),
            Err(code) => Ok(Report::printed(code)),
        }
    }

    async fn show_until(&self, stop: &CancellationToken, client: &Client) -> anyhow::Result<()> {
        let form = self.output.structured();
        let clears = form.is_none() && stdout().is_terminal();
        let mut last: Option<(u64, Instant)> = None;
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let members = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                members = async { ticks.tick().await; members(client).await } => members,
            };
            let report = match members {
                Ok(members) => {
                    let (now, reads) = (Instant::now(), reads(&members));
                    let rate = last.map(|(before, at)| rate(reads, before, now - at));
                    last = Some((reads, now));
                    report(&members, rate)
                }
                Err(error) => {
                    // The next look may succeed: a member restarts, a port-forward comes back.
                    _ = print_failure("status", form, &Failed::from(&error));
                    continue;
                }
            };
            match (clears, form) {
                (true, _) => print(redrawn(&report.text))?,
                (false, None) => print([&report.text[..], b"\n"].concat())?,
                (false, Some(_)) => report.print("status", form)?,
            }
        }
    }
}

/// Every member's state.
///
/// # Errors
/// No member answers.
async fn members(client: &Client) -> anyhow::Result<Vec<MemberAnswer<StatusResponse>>> {
    let members = client.status().await?;
    if members.iter().any(|m| m.answer.is_ok()) {
        return Ok(members);
    }
    let error = members.into_iter().find_map(|m| m.answer.err());
    Err(error.context("no member is known")?.into())
}

fn report(members: &[MemberAnswer<StatusResponse>], rate: Option<f64>) -> Report {
    let code = match members.iter().all(|m| m.answer.is_ok()) {
        true => exit::OK,
        false => exit::FAILURE,
    };
    Report::new(as_text(members, rate, terminal_width()), as_json(members)).code(code)
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(reads: u64, before: u64, elapsed: Duration) -> f64 {
    reads.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(0.001)
}

/// The screen over the one before, without the flicker of clearing it first: home, each line
/// with the rest of the old one erased, then all below.
fn redrawn(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).replace('\n', "\x1b[K\n");
    format!("\x1b[H{text}\x1b[J")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_over_the_one_before() {
        assert_eq!(redrawn(b"a\nb\n"), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }

    #[test]
    fn counters_of_a_restarted_member_make_no_negative_rate() {
        assert!((rate(30, 10, Duration::from_secs(2)) - 10.0).abs() < 1e-9);
        assert!(rate(1, 10, Duration::from_secs(2)).abs() < 1e-9);
    }
}
