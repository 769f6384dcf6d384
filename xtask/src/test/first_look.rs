//! `larder up` as a newcomer meets it: it serves, the commands that it prints work as printed,
//! Prometheus' own linter finds no fault with its metrics, Ctrl-C ends it cleanly.
//!
//! It takes free ports and a temporary folder, so it meets no other `up` on the machine.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::checks::{Checks, expect};
use super::report::Count;
use crate::packages::{self, Needed};
use crate::{command, http, up};

/// The last line that `up` prints before its live line.
const READY: &str = "Ctrl-C stops.";
/// Longest wait for the end after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(30);
/// promtool comes with it.
const NEEDED: [Needed; 2] =
    [Needed { file: "promtool", package: "prometheus" }, Needed { file: "curl", package: "curl" }];

/// Runs every check, shows each that fails, and counts.
///
/// # Errors
/// When `larder` cannot be built or does not start to serve.
pub(super) fn run() -> Result<Count> {
    packages::ensure(&NEEDED)?;
    let program = up::build()?;
    let data = tempfile::tempdir()?;
    let mut larder = Command::new(program);
    larder.args(["up", "--port-base", "0", "--data"]).arg(data.path());
    let begin = Instant::now();
    let mut running = Running::start(&mut larder)?;
    println!("it serves after {:.1} s", begin.elapsed().as_secs_f64());

    let mut checks = Checks::of("first look");
    let commands = commands(&running.words);
    checks.add("two commands to copy", expect(commands.len() == 2, || running.words.clone()));
    let mut answers = Vec::new();
    for line in &commands {
        let result = command::output(Command::new("sh").args(["-c", line]));
        checks.add(line, result.map(|answer| answers.push(answer.trim().to_owned())));
    }
    let same = answers.len() == 2 && !answers[0].is_empty() && answers[1].contains(&answers[0]);
    checks.add("both answer the same row", expect(same, || answers.join("\n")));
    let members = metrics_addresses(&running.words);
    checks.add("three members with metrics", expect(members.len() == 3, || running.words.clone()));
    for address in members {
        checks.add(&format!("the metrics of {address}"), check_metrics(address));
    }
    checks.add("Ctrl-C ends it cleanly", running.stop());
    Ok(checks.count)
}

/// `larder up` at work; killed when dropped before [`Running::stop`].
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What it has printed until it served.
    words: String,
}

impl Running {
    fn start(larder: &mut Command) -> Result<Self> {
        let mut child = larder.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = BufReader::new(child.stdout.take().context("it is piped")?);
        let mut running = Self { child, stdout, words: String::new() };
        while !running.words.lines().any(|line| line == READY) {
            if running.stdout.read_line(&mut running.words)? == 0 {
                bail!("`larder up` ended before it served:\n{}", running.words);
            }
        }
        Ok(running)
    }

    /// Sends what Ctrl-C sends and waits for a clean end.
    fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process id")?, Signal::INT)?;
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                let mut rest = String::new();
                self.stdout.read_to_string(&mut rest)?;
                return expect(status.success(), || format!("{status}: {rest}"));
            }
            if begin.elapsed() > PATIENCE {
                bail!("it still runs after {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The indented lines below "Try".
fn commands(words: &str) -> Vec<String> {
    let below = words.lines().skip_while(|line| !line.starts_with("Try")).skip(1);
    below.map_while(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// The addresses of all `http://ADDRESS/metrics`.
fn metrics_addresses(words: &str) -> Vec<SocketAddr> {
    let words = words.split_whitespace();
    words
        .filter_map(|word| word.strip_prefix("http://")?.strip_suffix("/metrics")?.parse().ok())
        .collect()
}

/// # Errors
/// promtool's findings, or that there is nothing of ours to scrape.
fn check_metrics(address: SocketAddr) -> Result<()> {
    let (status, metrics) = http::get(address, "/metrics")?;
    expect(status == 200 && metrics.contains("larder_"), || format!("{status}: {metrics}"))?;
    command::fed(Command::new("promtool").args(["check", "metrics"]), &metrics).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "MEMBER  GRPC  HTTP  METRICS\n\
        shop-0  127.0.0.1:1  http://127.0.0.1:2  http://127.0.0.1:3/metrics\n\n\
        Try, from another terminal:\n  larder get students Tom\n  curl 'x'\n\nCtrl-C stops.\n";

    #[test]
    fn commands_and_addresses_are_read_as_printed() {
        assert_eq!(commands(WORDS), ["larder get students Tom", "curl 'x'"]);
        assert_eq!(metrics_addresses(WORDS), ["127.0.0.1:3".parse().expect("an address")]);
    }
}
