//! The end-to-end tests: images are built and loaded into a throw-away cluster, README's commands
//! run on it as printed, and the tests of `e2e/` run in its first node's network.
//!
//! A cluster that exists is used and stays. Otherwise the tier creates one and removes it, unless
//! it is to be kept.

mod access;
mod logs;
mod readme;

use std::fs::{self, File, TryLockError};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use self::access::folder;
use super::ahead::Ahead;
use super::cargo_test;
use super::report::{BuildClock, Count, TierResult, counted};
use crate::compile::{self, TestProgram};
use crate::tools::{self, Tool};
use crate::{command, image, kube, packages, workspace};

/// The smallest cluster of which one node may fail while two remain.
const NODES: u8 = 3;
/// Tests that run at the same time; the control plane shares the machine's cores with them.
const THREADS: &str = "5";
/// The test that `cargo xtask bench warmth` runs.
const WARMTH: &str = "warmth::measure";
/// Debian packages of servers that the tests start.
const NEEDED: [packages::Needed; 2] = [
    packages::Needed { file: "prometheus", package: "prometheus" },
    packages::Needed { file: "/usr/lib/postgresql", package: "postgresql" },
];

/// Begins the build of the Go programs, which takes longest, unless the tier cannot run.
pub(super) fn ahead() -> Ahead {
    if obstacle().is_some() {
        return Ahead::default();
    }
    // The integration tests need etcd first.
    Ahead::start([("tools", vec![this(&["tools", "etcd"]), this(&["tools"])])])
}

/// Starts a cluster while earlier tiers run, if there is none and its programs are built. Otherwise
/// the tier starts it.
pub(super) fn start_ahead(keep: bool) -> Option<Cluster> {
    let possible = obstacle().is_none() && matches!(kube::nodes(), Ok(None)) && kube::is_built();
    possible.then(|| Cluster::start_ahead(keep).ok()).flatten()
}

/// How the tier runs.
pub(super) struct Options<'a> {
    /// Names of tests contain one of these; empty for all tests.
    pub(super) filters: &'a [String],
    /// The cluster stays for the next run.
    pub(super) keep: bool,
    /// Runs the published images, and with them the tests whose bars only those meet.
    pub(super) release: bool,
}

/// Runs the tier.
pub(super) fn run(
    building: &mut BuildClock,
    options: &Options<'_>,
    ahead: Option<Cluster>,
) -> TierResult {
    obstacle().map_or_else(|| counted(run_all(building, options, ahead)), TierResult::NotRun)
}

/// Why the tier cannot run here and now.
fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it creates network namespaces, so it has to run as root".into());
    }
    match kube::nodes() {
        Err(error) => Some(format!("{error:#}")),
        Ok(Some(nodes)) if nodes < NODES => Some(format!(
            "the cluster has {nodes} nodes and the tests need {NODES}: `cargo xtask kube down` first"
        )),
        Ok(_) => None,
    }
}

fn run_all(
    building: &mut BuildClock,
    options: &Options<'_>,
    ahead: Option<Cluster>,
) -> Result<Count> {
    let filters = options.filters;
    let _lock = lock()?;
    let program = building.time(build_tests)?;
    let tests = list(&program, filters)?;
    let with_readme = filters.is_empty() || filters.iter().any(|each| readme::NAME.contains(each));
    if tests == 0 && !with_readme {
        return Ok(Count::default());
    }
    let cluster = prepare(building, options.keep, options.release, ahead)?;
    let mut count = Count::default();
    if with_readme {
        count = count.plus(readme::run(cluster.is_new())?);
    }
    if tests > 0 {
        count = count.plus(run_tests(&program, options)?);
    }
    if count.failed > 0 {
        logs::show();
    }
    Ok(count)
}

/// Runs the test that measures warmth. The variables select the changes and name the output.
///
/// # Errors
/// When the tier cannot run here and now, or the test fails.
pub(super) fn warmth(keep: bool, variables: &[(&str, String)]) -> Result<()> {
    if let Some(why) = obstacle() {
        bail!("{why}");
    }
    let _lock = lock()?;
    let program = build_tests()?;
    let _cluster = prepare(&mut BuildClock::default(), keep, false, None)?;
    let mut command = tests(&program);
    command.args(["--exact", "--ignored", WARMTH]);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    let count = cargo_test::run(&mut command)?;
    if count.failed > 0 {
        logs::show();
    }
    ensure!(count.failed == 0 && count.passed == 1, "{WARMTH} failed");
    Ok(())
}

/// Finds or starts the cluster, and loads the images.
fn prepare(
    building: &mut BuildClock,
    keep: bool,
    release: bool,
    ahead: Option<Cluster>,
) -> Result<Cluster> {
    packages::ensure(&NEEDED)?;
    building.time(|| tools::ensure(&[Tool::Kubectl, Tool::Helm, Tool::Grpcurl, Tool::Etcdctl]))?;
    let begin = Instant::now();
    let mut cluster = ahead.map_or_else(|| Cluster::find_or_start(keep), Ok)?;
    let images =
        building.time(|| if release { image::build(None) } else { image::build_for_tests() })?;
    image::show(&images)?;
    cluster.wait()?;
    println!("the cluster is ready after {:.0} s", begin.elapsed().as_secs_f64());
    let archives: Vec<PathBuf> = images.into_iter().map(|image| image.file).collect();
    let loaded = kube::load(&archives)?;
    println!("loaded after {:.0} s: {}", begin.elapsed().as_secs_f64(), loaded.join(", "));
    Ok(cluster)
}

/// Keeps a second run from using the same cluster.
fn lock() -> Result<File> {
    fs::create_dir_all(workspace::target())?;
    let path = workspace::target().join("kubernetes-tests.lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another run of the Kubernetes tests is under way"),
        Err(TryLockError::Error(error)) => Err(error).context("lock the cluster"),
    }
}

/// Builds the test program outside the cluster's network, from which no registry of crates is
/// reachable.
fn build_tests() -> Result<TestProgram> {
    compile::targets(&["--test", "kubernetes"])?.tests.pop().context("cargo built no test program")
}

/// Number of tests that the filters select.
fn list(program: &TestProgram, filters: &[String]) -> Result<usize> {
    let list = command::output(
        Command::new(&program.file).args(["--list", "--format", "terse"]).args(filters),
    )?;
    Ok(list.lines().filter(|line| line.ends_with(": test")).count())
}

fn run_tests(program: &TestProgram, options: &Options<'_>) -> Result<Count> {
    let mut tests = tests(program);
    tests.args(["--test-threads", THREADS]);
    if options.release {
        // It takes too long and has no bar: `cargo xtask bench warmth`.
        tests.args(["--include-ignored", "--skip", WARMTH]);
    }
    tests.args(options.filters);
    cargo_test::run(&mut tests)
}

/// The test program in the cluster's network.
fn tests(program: &TestProgram) -> Command {
    let mut tests = kube(&["exec", "--"]);
    // The tests print the figures that the change's description quotes.
    tests.arg(&program.file).arg("--nocapture");
    tests.env("LARDER_E2E_ENV", folder().join("env.json"));
    tests.env("LARDER_E2E_TOOLS", folder().join("bin"));
    // To stop and start nodes, which works only outside the cluster's network.
    tests.env("LARDER_E2E_XTASK", std::process::id().to_string());
    tests
}

/// The cluster of this run.
pub(super) struct Cluster {
    /// The `kube up` of a new cluster, until it has ended.
    starting: Option<Child>,
    /// Output of a start during earlier tiers.
    log: Option<PathBuf>,
    new: bool,
    keep: bool,
}

impl Cluster {
    /// Finds the existing cluster or begins to start one.
    fn find_or_start(keep: bool) -> Result<Self> {
        if kube::nodes()?.is_some() {
            println!("using the cluster that exists");
            return Ok(Self { starting: None, log: None, new: false, keep });
        }
        Self::start(kube_up(), None, keep)
    }

    fn start_ahead(keep: bool) -> Result<Self> {
        let log = workspace::target().join("ahead-cluster.log");
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut up = kube_up();
        up.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Self::start(up, Some(log), keep)
    }

    fn start(mut up: Command, log: Option<PathBuf>, keep: bool) -> Result<Self> {
        let up = up.spawn().context("start kube up")?;
        Ok(Self { starting: Some(up), log, new: true, keep })
    }

    fn is_new(&self) -> bool {
        self.new
    }

    /// Waits until the cluster is ready.
    fn wait(&mut self) -> Result<()> {
        if let Some(mut up) = self.starting.take() {
            let status = up.wait()?;
            if let Some(log) = &self.log {
                print!("{}", fs::read_to_string(log).unwrap_or_default());
            }
            if !status.success() {
                bail!("`kube up` failed ({status})");
            }
        }
        // Writes the scripts that run programs inside the cluster's network.
        command::output(&mut kube(&["env"])).map(drop)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut up) = self.starting.take() {
            // A cluster that is still starting cannot be removed.
            drop(up.wait());
        }
        if !self.new {
            return;
        }
        if self.keep {
            println!("the cluster stays: `cargo xtask kube down` removes it");
        } else if let Err(error) = command::shown(&mut kube(&["down"])) {
            println!("error: {error:#}; `cargo xtask kube down` can be repeated");
        }
    }
}

fn kube_up() -> Command {
    kube(&["up", "--nodes", &NODES.to_string()])
}

/// This program with the verb `kube`.
fn kube(arguments: &[&str]) -> Command {
    this(&[&["kube"], arguments].concat())
}

/// This program, by /proc: a build of the whole workspace may have replaced its file.
fn this(arguments: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.current_dir(workspace::root()).args(arguments);
    command
}
