//! Long builds of a later tier, started before the first tier: they use what the tiers leave idle.
//!
//! Build failures here do not fail the run: the tier that needs a build repeats it, finds most of it
//! done, and reports the error.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// The kernel's lowest priority: the running tier goes first.
const NICENESS: i32 = 19;
/// Poll interval while waiting for a build.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(30);

/// Builds in progress, each with a log of its own.
#[derive(Default)]
pub(super) struct Ahead(Vec<Build>);

struct Build {
    name: &'static str,
    log: PathBuf,
    thread: JoinHandle<Result<()>>,
}

impl Ahead {
    /// Starts every build; the commands of one build run in turn.
    pub(super) fn start<const N: usize>(builds: [(&'static str, Vec<Command>); N]) -> Self {
        Self(builds.into_iter().map(|(name, commands)| Build::start(name, commands)).collect())
    }

    /// Waits for every build, with a line of progress for each that takes long.
    pub(super) fn wait(&mut self) {
        for build in self.0.drain(..) {
            build.wait();
        }
    }
}

impl Build {
    fn start(name: &'static str, commands: Vec<Command>) -> Self {
        let log = workspace::target().join(format!("ahead-{name}.log"));
        let file = log.clone();
        Self { name, log, thread: thread::spawn(move || run(commands, &file)) }
    }

    fn wait(self) {
        let mut reported = Instant::now();
        if !self.thread.is_finished() {
            println!(
                "waiting for {}, started with the first tier: {}",
                self.name,
                self.log.display()
            );
        }
        while !self.thread.is_finished() {
            thread::sleep(POLL_INTERVAL);
            if reported.elapsed() > PROGRESS_INTERVAL {
                println!("  still building {}", self.name);
                reported = Instant::now();
            }
        }
        if let Err(error) = self.thread.join().expect("it returns its errors") {
            println!("the early build of {} failed: {error:#}", self.name);
        }
    }
}

fn run(commands: Vec<Command>, log: &Path) -> Result<()> {
    // Linux keeps the priority per thread; child processes inherit it.
    rustix::process::nice(NICENESS).context("lower the priority of a build")?;
    let output = File::create(log).with_context(|| format!("make {}", log.display()))?;
    for mut command in commands {
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        let status = command.status().context("could not start")?;
        if !status.success() {
            bail!("{status}; see {}", log.display());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sh(script: &str) -> Command {
        let mut sh = Command::new("sh");
        sh.args(["-c", script]);
        sh
    }

    /// On a thread of its own: a lowered priority cannot be raised again.
    fn run_aside(commands: Vec<Command>, log: &Path) -> Result<()> {
        thread::scope(|scope| scope.spawn(|| run(commands, log)).join().expect("it returns"))
    }

    #[test]
    fn commands_run_in_turn_at_the_lowest_priority() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let mine = rustix::process::getpriority_process(None).expect("a priority");
        let both = vec![sh("echo first"), sh("cut -d' ' -f19 /proc/self/stat")];
        run_aside(both, &log).expect("both succeed");
        assert_eq!(fs::read_to_string(&log).expect("written"), "first\n19\n");
        let after = rustix::process::getpriority_process(None).expect("a priority");
        assert_eq!(after, mine, "the tiers keep their priority");
    }

    #[test]
    fn after_a_failure_nothing_more_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let both = vec![sh("exit 3"), sh("echo second")];
        let error = run_aside(both, &log).expect_err("the first fails").to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert_eq!(fs::read_to_string(&log).expect("written"), "");
    }
}
