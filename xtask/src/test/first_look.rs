//! The first minutes with `larder up`: it serves, the commands that it prints work as printed,
//! Prometheus' linter accepts its metrics, and Ctrl-C stops it cleanly.
//!
//! It uses free ports and a temporary folder, so that it does not collide with another `up`.

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

/// The last line that `up` prints before its status line.
const READY: &str = "Ctrl-C stops.";
/// Longest wait for the exit after Ctrl-C.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Debian packages promtool with Prometheus.
const NEEDED: [Needed; 2] =
    [Needed { file: "promtool", package: "prometheus" }, Needed { file: "curl", package: "curl" }];

/// Runs and counts the checks, and prints each result.
///
/// # Errors
/// When `larder` cannot be built or does not serve.
pub(super) fn run() -> Result<Count> {
    packages::ensure(&NEEDED)?;
    let program = up::build()?;
    let data = tempfile::tempdir()?;
    let mut larder = Command::new(program);
    larder.args(["up", "--port-base", "0", "--data"]).arg(data.path());
    let begin = Instant::now();
    let mut running = Running::start(&mut larder)?;
    println!("ready after {:.1} s", begin.elapsed().as_secs_f64());

    let mut checks = Checks::new("first look");
    let commands = commands(&running.printed);
    checks.add(
        "prints two commands to copy",
        expect(commands.len() == 2, || running.printed.clone()),
    );
    let mut outputs = Vec::new();
    for line in &commands {
        let result = command::output(Command::new("sh").args(["-c", line]));
        checks.add(line, result.map(|output| outputs.push(output.trim().to_owned())));
    }
    let same = outputs.len() == 2 && !outputs[0].is_empty() && outputs[1].contains(&outputs[0]);
    checks.add("both commands print the same row", expect(same, || outputs.join("\n")));
    let members = metrics_addresses(&running.printed);
    checks.add(
        "prints the metrics addresses of three members",
        expect(members.len() == 3, || running.printed.clone()),
    );
    for address in members {
        checks.add(&format!("the metrics of {address}"), check_metrics(address));
    }
    checks.add("Ctrl-C stops it cleanly", running.stop());
    Ok(checks.count)
}

/// A running `larder up`; killed when dropped.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Its output until it was ready.
    printed: String,
}

impl Running {
    fn start(larder: &mut Command) -> Result<Self> {
        let mut child = larder.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = BufReader::new(child.stdout.take().context("its standard output is piped")?);
        let mut running = Self { child, stdout, printed: String::new() };
        while !running.printed.lines().any(|line| line == READY) {
            if running.stdout.read_line(&mut running.printed)? == 0 {
                bail!("`larder up` exited before it was ready:\n{}", running.printed);
            }
        }
        Ok(running)
    }

    /// Sends the signal of Ctrl-C and waits for a successful exit.
    fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("it has no process id")?, Signal::INT)?;
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                let mut output = String::new();
                self.stdout.read_to_string(&mut output)?;
                return expect(status.success(), || format!("{status}: {output}"));
            }
            if begin.elapsed() > STOP_TIMEOUT {
                bail!("it is still running after {} s", STOP_TIMEOUT.as_secs());
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
fn commands(printed: &str) -> Vec<String> {
    let below = printed.lines().skip_while(|line| !line.starts_with("Try")).skip(1);
    below.map_while(|line| line.strip_prefix("  ")).map(str::to_owned).collect()
}

/// The addresses of all `http://ADDRESS/metrics`.
fn metrics_addresses(printed: &str) -> Vec<SocketAddr> {
    printed
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("http://")?.strip_suffix("/metrics")?.parse().ok())
        .collect()
}

/// # Errors
/// When the metrics cannot be read, have none of Larder's, or promtool has findings.
fn check_metrics(address: SocketAddr) -> Result<()> {
    let (status, metrics) = http::get(address, "/metrics")?;
    expect(status == 200 && metrics.contains("larder_"), || format!("{status}: {metrics}"))?;
    command::fed(Command::new("promtool").args(["check", "metrics"]), &metrics).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "MEMBER  GRPC  HTTP  METRICS\n\
        shop-0  127.0.0.1:1  http://127.0.0.1:2  http://127.0.0.1:3/metrics\n\n\
        Try, from another terminal:\n  larder get students Tom\n  curl 'x'\n\nCtrl-C stops.\n";

    #[test]
    fn commands_and_addresses_are_read_as_printed() {
        assert_eq!(commands(PRINTED), ["larder get students Tom", "curl 'x'"]);
        assert_eq!(metrics_addresses(PRINTED), ["127.0.0.1:3".parse().expect("an address")]);
    }
}
