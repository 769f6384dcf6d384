//! `cargo xtask test`: everything that must hold, tier by tier, each timed, with one table and one
//! closing line at the end.
//!
//! It never hides a failing program's output, and never reports a tier that could not run as a success.
//! Start at [`run`]; each tier that needs more than a command has a module of its own.

mod ahead;
mod cargo_test;
mod chart;
mod checks;
mod database;
mod first_look;
mod kubernetes;
mod mariadb;
mod postgres;
mod programs;
mod report;

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use self::ahead::Ahead;
use self::report::{BuildClock, Count, Report, TierResult, Took, counted};
use crate::compile::{self, Build};
use crate::tools::{self, Tool};
use crate::{bench, command, generate, lint, workspace};

/// `cargo xtask test`
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                           everything; the whole run that CI repeats
  cargo xtask test --quick                   everything but Kubernetes
  cargo xtask test --only tests lease        unit and integration tests with `lease` in their names
  cargo xtask test --only kubernetes scale   one test on a real Kubernetes")]
pub(crate) struct Args {
    /// Leaves out what needs Kubernetes.
    #[arg(long)]
    quick: bool,
    /// Runs this tier only; may be given more than once.
    #[arg(long, value_name = "TIER")]
    only: Vec<Tier>,
    /// Keeps the Kubernetes tier's cluster for the next run, which then starts faster.
    #[arg(long)]
    keep: bool,
    /// Runs only tests whose names contain one of these, in the tiers made of tests.
    filters: Vec<String>,
}

/// One step of the whole run, in the order in which they run. What needs a Go program comes late: those
/// build in the background meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// `cargo fmt` would change nothing.
    Format,
    /// The workspace compiles, neither rustc nor clippy warns of anything in any target, and modules import
    /// one way.
    Lint,
    /// Unit and integration tests, with a real etcd, PostgreSQL and MariaDB.
    Tests,
    /// The cache engine keeps its promises under many schedules of its threads.
    Interleavings,
    /// Simulated clusters under faults keep every rule, for 20 seconds.
    Lab,
    /// The examples in the documentation compile and hold.
    Docs,
    /// The engine's bench and soak, each verb at a tiny size.
    Benches,
    /// `up` serves, the commands that it prints work, and Prometheus finds no fault with its metrics.
    FirstLook,
    /// Files made from others are current.
    Generated,
    /// The chart renders in all its shapes and refuses misspelt values.
    Chart,
    /// The end-to-end tests, on a real Kubernetes.
    Kubernetes,
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Lint => "lint",
            Self::Tests => "unit and integration",
            Self::Interleavings => "interleavings",
            Self::Lab => "laboratory",
            Self::Docs => "documentation",
            Self::Benches => "benches",
            Self::FirstLook => "first look",
            Self::Generated => "generated files",
            Self::Chart => "chart",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// Filters choose among tests, so a tier that is not made of tests says nothing about them.
    fn is_made_of_tests(self) -> bool {
        matches!(
            self,
            Self::Tests
                | Self::Interleavings
                | Self::Lab
                | Self::Docs
                | Self::Benches
                | Self::Kubernetes
        )
    }
}

/// Runs the tiers. The status is success when nothing failed; where `CI` is set, also only when
/// no tier was left undone.
pub(crate) fn run(args: &Args) -> ExitCode {
    let strict = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    let mut steps = Steps::new(args);
    let mut report = Report::default();
    for tier in Tier::value_variants() {
        if !wanted(args, *tier) {
            report.add(tier.name(), TierResult::LeftOut, Took::default());
            continue;
        }
        println!("\n== {} ==", tier.name());
        let begin = Instant::now();
        let results = steps.run(*tier);
        let took = Took { whole: begin.elapsed(), building: steps.building.take() };
        for (name, result) in results {
            report.add(name, result, took);
        }
    }
    println!("\n{}", report.table());
    let holds = report.is_success(strict);
    if !strict && report.is_success(false) != report.is_success(true) {
        println!("where CI is set, a tier that is not run is a failure");
    }
    println!("{}", report.closing_line());
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the Kubernetes tier on the published images, with the tests of resident memory.
///
/// # Errors
/// When a test fails or the tier cannot run.
pub(crate) fn published_images(filters: &[String]) -> Result<()> {
    let options = kubernetes::Options { filters, keep: false, release: true };
    match kubernetes::run(&mut BuildClock::default(), &options, None) {
        TierResult::Ran(count) => {
            println!("{} passed, {} failed", count.passed, count.failed);
            ensure!(count.failed == 0, "the published images do not hold what the tests ask");
            Ok(())
        }
        TierResult::NotRun(why) => bail!("{why}"),
        TierResult::LeftOut => Ok(()),
    }
}

/// Measures warmth on a real Kubernetes. The variables select the changes and name the output.
///
/// # Errors
/// When there can be none on this machine, or the measurement fails.
pub(crate) fn warmth(keep: bool, variables: &[(&str, String)]) -> Result<()> {
    kubernetes::warmth(keep, variables)
}

fn wanted(args: &Args, tier: Tier) -> bool {
    let asked = if args.only.is_empty() {
        !(args.quick && tier == Tier::Kubernetes)
    } else {
        args.only.contains(&tier)
    };
    asked && (args.filters.is_empty() || tier.is_made_of_tests())
}

/// Test programs that run alone: their members hold leases of two seconds, the shortest that etcd grants,
/// and a process that gets no processor for so long loses them.
const ALONE: [&str; 2] = ["node/tests/cluster.rs", "node/tests/faults.rs"];

/// Test programs that take ten seconds or more. They start first, so that none of them runs alone at the
/// end.
const LONGEST: [&str; 5] = [
    "node/engine/src/lib.rs",
    "node/tests/services.rs",
    "cli/tests/cli/main.rs",
    "node/ring/tests/guarantees.rs",
    "node/engine/tests/scenarios.rs",
];

/// The folder of simulated clusters.
const LABORATORY: &str = "lab/";

/// How many other programs run at the same time: one waits for sockets and timers while the other computes.
const AT_ONCE: usize = 2;

/// What the tiers of one run share.
struct Steps<'a> {
    filters: &'a [String],
    /// The Kubernetes tier's cluster stays for the next run.
    keep: bool,
    /// The Kubernetes tier will run.
    kubernetes: bool,
    ahead: Ahead,
    /// Started before its tier, if nothing has to be built for it.
    cluster: Option<kubernetes::Cluster>,
    /// The workspace, once it has been built.
    built: Option<Build>,
    /// Runs while the present tier builds something or waits for a build.
    building: BuildClock,
}

impl<'a> Steps<'a> {
    /// Begins the long builds of the tiers that will run.
    fn new(args: &'a Args) -> Self {
        let ahead =
            if wanted(args, Tier::Kubernetes) { kubernetes::ahead() } else { Ahead::default() };
        Self {
            filters: &args.filters,
            keep: args.keep,
            kubernetes: wanted(args, Tier::Kubernetes),
            ahead,
            cluster: None,
            built: None,
            building: BuildClock::default(),
        }
    }

    /// The result of a tier and of each service without which a part of it proves nothing.
    fn run(&mut self, tier: Tier) -> Vec<(&'static str, TierResult)> {
        let result = match tier {
            Tier::Format => check(|| command::shown(&mut lint::format())),
            Tier::Lint => check(|| self.lint()),
            Tier::Tests => return self.tests(),
            Tier::Interleavings => self.other_workspace(interleavings),
            Tier::Lab => self.laboratory(),
            Tier::Docs => self.documentation(),
            Tier::Benches => {
                if self.kubernetes {
                    self.cluster = kubernetes::start_ahead(self.keep);
                }
                self.other_workspace(bench::tests)
            }
            Tier::FirstLook => counted(first_look::run()),
            Tier::Generated => check(generate::check),
            Tier::Chart => counted(chart::run()),
            Tier::Kubernetes => {
                self.building.time(|| self.ahead.wait());
                let (filters, keep) = (self.filters, self.keep);
                kubernetes::run(
                    &mut self.building,
                    &kubernetes::Options { filters, keep, release: false },
                    self.cluster.take(),
                )
            }
        };
        vec![(tier.name(), result)]
    }

    /// Every target of every member; compiled in the first tier that asks.
    fn workspace(&mut self) -> Result<&Build> {
        if self.built.is_none() {
            self.built = Some(self.building.time(compile::workspace)?);
        }
        Ok(self.built.as_ref().expect("set above"))
    }

    fn lint(&mut self) -> Result<()> {
        self.workspace()?.check_findings()?;
        lint::imports()
    }

    /// The workspace's own test programs; those of `e2e/tests` need a Kubernetes, and those of `lab/` both
    /// cores: they run in their own tiers.
    fn tests(&mut self) -> Vec<(&'static str, TierResult)> {
        let mut results = Vec::new();
        let mut variables = Vec::new();
        match self.building.time(|| tools::ensure(&[Tool::Etcd])) {
            Ok(found) => {
                variables.push(("LARDER_ETCD", found.path(Tool::Etcd).display().to_string()));
            }
            Err(error) => {
                results.push(("with a real etcd", TierResult::NotRun(format!("{error:#}"))));
            }
        }
        // Kept until the tests have ended.
        let mut servers = Vec::new();
        for (variable, part, started) in [
            ("LARDER_POSTGRES", "with a real PostgreSQL", postgres::start()),
            ("LARDER_MYSQL", "with a real MariaDB", mariadb::start()),
        ] {
            match started {
                Ok(server) => {
                    variables.push((variable, server.url().to_owned()));
                    servers.push(server);
                }
                Err(error) => {
                    results.push((part, TierResult::NotRun(format!("{error:#}"))));
                }
            }
        }
        let filters = self.filters;
        let ran = self.workspace().and_then(|built| {
            let elsewhere = ["e2e/tests/", LABORATORY];
            let here = built.tests.iter();
            let here = here.filter(|test| !elsewhere.iter().any(|at| test.source.starts_with(at)));
            let (alone, mut others): (Vec<_>, Vec<_>) =
                here.cloned().partition(|test| ALONE.contains(&test.source.as_str()));
            others.sort_by_key(|test| {
                LONGEST.iter().position(|source| test.source == *source).unwrap_or(LONGEST.len())
            });
            let alone = programs::run(&alone, 1, filters, &variables);
            let others = programs::run(&others, AT_ONCE, filters, &variables);
            Ok(alone?.plus(others?))
        });
        results.insert(0, (Tier::Tests.name(), counted(ran)));
        results
    }

    fn laboratory(&mut self) -> TierResult {
        let filters = self.filters;
        counted(self.workspace().and_then(|built| {
            let lab = built.tests.iter().filter(|test| test.source.starts_with(LABORATORY));
            programs::run(&lab.cloned().collect::<Vec<_>>(), 1, filters, &[])
        }))
    }

    /// A workspace of its own, for which cargo builds and runs the tests.
    fn other_workspace(&mut self, cargo: impl Fn() -> Command) -> TierResult {
        let built = self.building.time(|| command::shown(cargo().arg("--no-run")));
        counted(built.and_then(|()| cargo_test::run(cargo().arg("--").args(self.filters))))
    }

    /// The harness of documentation compiles each example when it runs it.
    fn documentation(&self) -> TierResult {
        let mut cargo = command::workspace_cargo("test");
        cargo.args(["--doc", "--no-fail-fast", "--"]).args(self.filters);
        counted(cargo_test::run(&mut cargo))
    }
}

/// A tier that is one check.
fn check(run: impl FnOnce() -> Result<()>) -> TierResult {
    counted(run().map(|()| Count::PASSED))
}

/// The engine's sources once more, with locks and atomics that a scheduler controls: a workspace and
/// a target folder of its own, so that neither build discards the other's results.
fn interleavings() -> Command {
    let mut cargo = command::cargo();
    cargo.env("CARGO_TARGET_DIR", workspace::target().join("interleave"));
    cargo.args(["test", "--locked", "--no-fail-fast", "--manifest-path"]);
    cargo.arg("node/engine/interleave/Cargo.toml");
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(quick: bool, only: &[Tier], filters: &[&str]) -> Args {
        Args {
            quick,
            keep: false,
            only: only.to_vec(),
            filters: filters.iter().map(ToString::to_string).collect(),
        }
    }

    fn chosen(args: &Args) -> Vec<Tier> {
        Tier::value_variants().iter().copied().filter(|tier| wanted(args, *tier)).collect()
    }

    #[test]
    fn quick_leaves_out_kubernetes_and_nothing_else() {
        assert_eq!(chosen(&args(false, &[], &[])), Tier::value_variants());
        let quick = chosen(&args(true, &[], &[]));
        assert_eq!(quick.len(), Tier::value_variants().len() - 1);
        assert!(!quick.contains(&Tier::Kubernetes));
    }

    #[test]
    fn filters_reach_only_tiers_made_of_tests() {
        let chosen_by_name = chosen(&args(true, &[], &["lease"]));
        let of_tests = [Tier::Tests, Tier::Interleavings, Tier::Lab, Tier::Docs, Tier::Benches];
        assert_eq!(chosen_by_name, of_tests);
        assert_eq!(chosen(&args(false, &[Tier::Chart], &[])), [Tier::Chart]);
    }

    #[test]
    fn test_programs_with_a_place_of_their_own_exist() {
        for source in ALONE.into_iter().chain(LONGEST).chain(programs::MOSTLY_WAITING) {
            assert!(workspace::root().join(source).is_file(), "{source}");
        }
    }

    #[test]
    fn an_error_in_a_tier_is_a_failure() {
        assert_eq!(check(|| anyhow::bail!("no")), TierResult::Ran(Count::FAILED));
        assert_eq!(check(|| Ok(())), TierResult::Ran(Count::PASSED));
    }
}
