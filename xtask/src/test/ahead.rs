//! Long builds of a later tier, begun before the weaker tiers: they use what those leave idle.
//!
//! It never decides what is built, and its failures are not the run's: the tier that needs a build
//! does it once more, finds most of it done, and shows what goes wrong.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// The kernel's weakest: a build gets what nobody else wants.
const NICENESS: i32 = 19;
/// How often it is looked whether a build is done.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often who waits is told so.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// Builds under way, each with a log of its own.
#[derive(Default)]
pub(super) struct Ahead(Vec<Build>);

struct Build {
    name: &'static str,
    log: PathBuf,
    thread: JoinHandle<Result<()>>,
}

impl Ahead {
    /// Begins them all, beside each other; the commands of one run in turn.
    pub(super) fn start<const N: usize>(builds: [(&'static str, Vec<Command>); N]) -> Self {
        Self(builds.into_iter().map(|(name, commands)| Build::start(name, commands)).collect())
    }

    /// Waits for all, and says for what it waits.
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
        let mut told = Instant::now();
        if !self.thread.is_finished() {
            println!(
                "waiting for {}, begun with the first tier: {}",
                self.name,
                self.log.display()
            );
        }
        while !self.thread.is_finished() {
            thread::sleep(LOOK_EVERY);
            if told.elapsed() > TELL_EVERY {
                println!("  still building {}", self.name);
                told = Instant::now();
            }
        }
        if let Err(error) = self.thread.join().expect("it returns its errors") {
            println!("{} could not be built beside the other tiers: {error:#}", self.name);
        }
    }
}

fn run(commands: Vec<Command>, log: &Path) -> Result<()> {
    // Of this thread and what it starts; Linux keeps it per thread.
    rustix::process::nice(NICENESS).context("step back")?;
    let words = File::create(log).with_context(|| format!("make {}", log.display()))?;
    for mut command in commands {
        command.stdin(Stdio::null()).stdout(words.try_clone()?).stderr(words.try_clone()?);
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

    /// On a thread of its own, whose priority does not come back.
    fn run_aside(commands: Vec<Command>, log: &Path) -> Result<()> {
        thread::scope(|scope| scope.spawn(|| run(commands, log)).join().expect("it returns"))
    }

    #[test]
    fn commands_run_in_turn_and_weakly() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let mine = rustix::process::getpriority_process(None).expect("a priority");
        let both = vec![sh("echo first"), sh("cut -d' ' -f19 /proc/self/stat")];
        run_aside(both, &log).expect("both succeed");
        assert_eq!(fs::read_to_string(&log).expect("written"), "first\n19\n");
        let after = rustix::process::getpriority_process(None).expect("a priority");
        assert_eq!(after, mine, "the tiers are not slowed");
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
