//! `cargo xtask test`: everything that must hold, tier by tier, each timed, with one table and one
//! closing line at the end.
//!
//! It never hides what a failing program said, and never calls a tier that could not run a success.
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
mod report;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;

use self::ahead::Ahead;
use self::report::{Count, Report, TierResult};
use crate::tools::{self, Tool};
use crate::{bench, command, generate, lint, workspace};

/// `cargo xtask test`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leaves out what needs Kubernetes.
    #[arg(long)]
    quick: bool,
    /// Runs this tier only; may be given more than once.
    #[arg(long, value_name = "TIER")]
    only: Vec<Tier>,
    /// Runs only tests whose names contain one of these, in the tiers made of tests.
    filters: Vec<String>,
}

/// One step of the whole, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// `cargo fmt` would change nothing.
    Format,
    /// Clippy finds nothing, in any target of any crate.
    Lint,
    /// Files made from others are current.
    Generated,
    /// Unit and integration tests, with a real etcd, PostgreSQL and MariaDB.
    Tests,
    /// The cache engine keeps its promises under many schedules of its threads.
    Interleavings,
    /// The examples in the documentation compile and hold.
    Docs,
    /// The engine's bench and soak, each verb at a tiny size.
    Benches,
    /// `up` serves, what it prints works, and Prometheus finds no fault with its metrics.
    FirstLook,
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
            Self::Generated => "generated files",
            Self::Tests => "unit and integration",
            Self::Interleavings => "interleavings",
            Self::Docs => "documentation",
            Self::Benches => "benches",
            Self::FirstLook => "first look",
            Self::Chart => "chart",
            Self::Kubernetes => "kubernetes",
        }
    }

    /// Filters choose among tests, so a tier that is not made of tests says nothing about them.
    fn is_made_of_tests(self) -> bool {
        matches!(
            self,
            Self::Tests | Self::Interleavings | Self::Docs | Self::Benches | Self::Kubernetes
        )
    }
}

/// Runs the tiers. The status is success when nothing failed; where `CI` is set, also only when
/// nothing was left undone.
pub(crate) fn run(args: &Args) -> ExitCode {
    let strict = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false");
    let mut ahead = Ahead::default();
    if wanted(args, Tier::Kubernetes) {
        ahead = kubernetes::ahead();
    }
    let mut report = Report::default();
    for tier in Tier::value_variants() {
        if !wanted(args, *tier) {
            report.add(tier.name(), TierResult::LeftOut, std::time::Duration::ZERO);
            continue;
        }
        println!("\n== {} ==", tier.name());
        let begin = Instant::now();
        let outcomes = tier_outcomes(*tier, &args.filters, &mut ahead);
        let took = begin.elapsed();
        for (name, outcome) in outcomes {
            report.add(name, outcome, took);
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

fn wanted(args: &Args, tier: Tier) -> bool {
    let asked = if args.only.is_empty() {
        !(args.quick && tier == Tier::Kubernetes)
    } else {
        args.only.contains(&tier)
    };
    asked && (args.filters.is_empty() || tier.is_made_of_tests())
}

/// What became of a tier and, beside it, of services without which a part of it says nothing.
fn tier_outcomes(
    tier: Tier,
    filters: &[String],
    ahead: &mut Ahead,
) -> Vec<(&'static str, TierResult)> {
    let one = |outcome| vec![(tier.name(), outcome)];
    match tier {
        Tier::Format => one(check(|| command::shown(&mut lint::format()))),
        Tier::Lint => one(check(|| command::shown(&mut lint::clippy()))),
        Tier::Generated => one(check(generate::check)),
        Tier::Tests => tests(filters),
        Tier::Interleavings => one(interleavings(filters)),
        Tier::Docs => one(documentation(filters)),
        Tier::Benches => one(benches(filters)),
        Tier::FirstLook => one(counted(first_look::run())),
        Tier::Chart => one(counted(chart::run())),
        Tier::Kubernetes => one(kubernetes::run(ahead, filters)),
    }
}

/// A tier that is one check.
fn check(run: impl FnOnce() -> Result<()>) -> TierResult {
    counted(run().map(|()| Count::PASSED))
}

/// An error on the way is a failure like any other, and is shown.
fn counted(result: Result<Count>) -> TierResult {
    TierResult::Ran(result.unwrap_or_else(|error| {
        println!("error: {error:#}");
        Count::FAILED
    }))
}

/// Plain `cargo test`: there are few test programs, so a faster runner would not earn back the
/// minutes in which it is built.
fn tests(filters: &[String]) -> Vec<(&'static str, TierResult)> {
    let mut cargo = command::workspace_cargo("test");
    cargo.args(["--exclude", "larder-e2e", "--tests", "--no-fail-fast"]);
    let mut outcomes = Vec::new();
    match tools::ensure(&[Tool::Etcd]) {
        Ok(found) => {
            cargo.env("LARDER_ETCD", found.path(Tool::Etcd));
        }
        Err(error) => outcomes.push(("with a real etcd", TierResult::NotRun(format!("{error:#}")))),
    }
    // Kept until the tests have ended.
    let mut servers = Vec::new();
    for (variable, part, started) in [
        ("LARDER_POSTGRES", "with a real PostgreSQL", postgres::start()),
        ("LARDER_MYSQL", "with a real MariaDB", mariadb::start()),
    ] {
        match started {
            Ok(server) => {
                cargo.env(variable, server.url());
                servers.push(server);
            }
            Err(error) => outcomes.push((part, TierResult::NotRun(format!("{error:#}")))),
        }
    }
    cargo.arg("--").args(filters);
    outcomes.insert(0, (Tier::Tests.name(), counted(cargo_test::run(&mut cargo))));
    outcomes
}

/// The engine's sources once more, with locks and atomics that a scheduler controls: a workspace and
/// a target folder of its own, so that neither build throws the other's away.
fn interleavings(filters: &[String]) -> TierResult {
    let mut cargo = command::cargo();
    cargo.env("CARGO_TARGET_DIR", workspace::target().join("interleave"));
    cargo.args(["test", "--locked", "--no-fail-fast", "--manifest-path"]);
    cargo.arg("node/engine/interleave/Cargo.toml").arg("--").args(filters);
    counted(cargo_test::run(&mut cargo))
}

fn documentation(filters: &[String]) -> TierResult {
    let mut cargo = command::workspace_cargo("test");
    cargo.args(["--doc", "--no-fail-fast", "--"]).args(filters);
    counted(cargo_test::run(&mut cargo))
}

fn benches(filters: &[String]) -> TierResult {
    let mut cargo = bench::tests();
    cargo.arg("--").args(filters);
    counted(cargo_test::run(&mut cargo))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(quick: bool, only: &[Tier], filters: &[&str]) -> Args {
        Args {
            quick,
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
        let of_tests = [Tier::Tests, Tier::Interleavings, Tier::Docs, Tier::Benches];
        assert_eq!(chosen_by_name, of_tests);
        assert_eq!(chosen(&args(false, &[Tier::Chart], &[])), [Tier::Chart]);
    }

    #[test]
    fn an_error_in_a_tier_is_a_failure() {
        assert_eq!(check(|| anyhow::bail!("no")), TierResult::Ran(Count::FAILED));
        assert_eq!(check(|| Ok(())), TierResult::Ran(Count::PASSED));
    }
}
