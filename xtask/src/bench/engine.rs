//! `cargo xtask bench hit-ratio`, `cargo xtask bench engine` and `cargo xtask soak engine`: builds
//! the engine's bench (`node/engine/bench`, a workspace of its own), runs it, and puts what it
//! prints into the pages. It measures nothing itself.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::page::{self, Bystanders, MOST_FOREIGN_PERCENT, Page};
use crate::{command, workspace};

/// The bench's manifest, from the project's folder.
const MANIFEST: &str = "node/engine/bench/Cargo.toml";
/// Where the tables stand.
pub(super) const HIT_RATIO: Page =
    Page { file: "docs/benchmarks/hit-ratio.md", block: "hit-ratio" };
pub(super) const ENGINE: Page = Page { file: "docs/benchmarks/engine.md", block: "engine" };
/// Where the plots go, from the project's folder.
const PLOTS: &str = "docs/benchmarks/hit-ratio";

/// `cargo xtask bench hit-ratio`
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench hit-ratio --traces ~/traces
  cargo xtask bench hit-ratio --only zipf-0.99,loop --sizes 1,10 --dry-run")]
pub(crate) struct HitRatio {
    /// Folder of recorded request streams: NAME.trace or NAME.trace.xz, big-endian 32-bit keys,
    /// one a request. Unless given, the variable LARDER_TRACES counts; without either only
    /// generated streams run.
    #[arg(long, value_name = "FOLDER")]
    traces: Option<std::path::PathBuf>,
    /// Only the streams of these names, separated by commas.
    #[arg(long, value_name = "NAMES")]
    only: Option<String>,
    /// Sizes of the caches, percent of a stream's distinct keys, separated by commas.
    #[arg(long, value_name = "PERCENTS")]
    sizes: Option<String>,
    /// Requests of each generated stream.
    #[arg(long)]
    requests: Option<u32>,
    /// Prints the tables, and leaves page and plots as they are.
    #[arg(long)]
    dry_run: bool,
}

/// `cargo xtask bench engine`
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench engine
  cargo xtask bench engine --rounds 3 --operations 100000 --only 'larder TinyLfu,quick_cache' \\
    --dry-run")]
pub(crate) struct Engine {
    /// Times that each cache is measured in each shape; the median counts.
    #[arg(long)]
    rounds: Option<u32>,
    /// Operations of each thread in one round.
    #[arg(long)]
    operations: Option<u32>,
    /// Room of the caches whose memory is measured, mebibytes.
    #[arg(long, value_name = "MEBIBYTES")]
    budget_mib: Option<u64>,
    /// Only these caches, separated by commas.
    #[arg(long, value_name = "NAMES")]
    only: Option<String>,
    /// Prints the tables, and leaves the page as it is.
    #[arg(long)]
    dry_run: bool,
}

/// `cargo xtask soak engine`
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask soak engine
  cargo xtask soak engine --minutes 3 --budget-mib 512 --threads 1")]
pub(crate) struct Soak {
    /// Minutes of churn after the fill.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// The cache's capacity, mebibytes.
    #[arg(long, value_name = "MEBIBYTES")]
    budget_mib: Option<u64>,
    /// Threads that read and fill; one for each processor unless given.
    #[arg(long)]
    threads: Option<u32>,
}

/// Hit ratios do not depend on time: they reach the page however busy the machine is. Picked
/// streams and sizes do not, because the page holds all of them.
///
/// # Errors
/// When the bench cannot be built or fails.
pub(crate) fn hit_ratio(args: &HitRatio) -> Result<()> {
    let picked = args.only.is_some() || args.sizes.is_some() || args.requests.is_some();
    let keep = args.dry_run || picked;
    let mut bench = built("hit-ratio")?;
    if let Some(folder) = &args.traces {
        let folder = std::path::absolute(folder).context("find the folder of traces")?;
        bench.arg("--traces").arg(folder);
    }
    passed(&mut bench, "--only", args.only.as_ref());
    passed(&mut bench, "--sizes", args.sizes.as_ref());
    passed(&mut bench, "--requests", args.requests.as_ref());
    if !keep {
        bench.args(["--plots", PLOTS]);
    }
    let tables = printed(&mut bench)?;
    let block = format!("{}\n\n{tables}", page::circumstances()?);
    println!("\n{block}");
    if keep { Ok(()) } else { HIT_RATIO.write(&block) }
}

/// Writes the page, unless the machine was too busy with other things for the figures to mean
/// anything, or less than everything was measured.
///
/// # Errors
/// When the bench cannot be built or fails.
pub(crate) fn engine(args: &Engine) -> Result<()> {
    let mut bench = built("engine")?;
    passed(&mut bench, "--rounds", args.rounds.as_ref());
    passed(&mut bench, "--operations", args.operations.as_ref());
    passed(&mut bench, "--budget-mib", args.budget_mib.as_ref());
    passed(&mut bench, "--only", args.only.as_ref());
    let bystanders = Bystanders::watch()?;
    let tables = printed(&mut bench)?;
    let foreign = bystanders.percent()?;
    let block = format!(
        "{} Everything else on it used {foreign:.0} % of it meanwhile.\n\n{tables}",
        page::circumstances()?
    );
    println!("\n{block}");
    if args.dry_run || args.only.is_some() {
        return Ok(());
    }
    if foreign > MOST_FOREIGN_PERCENT {
        page::left_alone(&ENGINE, foreign);
        return Ok(());
    }
    ENGINE.write(&block)
}

/// Prints as it goes.
///
/// # Errors
/// When the bench cannot be built, or resident memory is not flat.
pub(crate) fn soak(args: &Soak) -> Result<()> {
    if !(args.minutes > 0.0 && args.minutes <= 24.0 * 60.0) {
        bail!("--minutes takes more than 0, up to a day");
    }
    let mut bench = built("soak")?;
    bench.args(["--seconds", &format!("{:.0}", (args.minutes * 60.0).max(1.0))]);
    passed(&mut bench, "--budget-mib", args.budget_mib.as_ref());
    passed(&mut bench, "--threads", args.threads.as_ref());
    command::shown(&mut bench)
}

fn passed(bench: &mut Command, flag: &str, value: Option<&impl ToString>) {
    if let Some(value) = value {
        bench.arg(flag).arg(value.to_string());
    }
}

/// Builds the bench and returns the command that runs one of its verbs.
fn built(verb: &str) -> Result<Command> {
    let of_bench = |what: &str| {
        let mut cargo = command::cargo();
        cargo.args([what, "--release", "--locked", "--manifest-path", MANIFEST]);
        cargo
    };
    command::shown(&mut of_bench("build"))?;
    let mut run = of_bench("run");
    run.args(["--quiet", "--", verb]);
    Ok(run)
}

/// What it prints on standard output; progress goes straight to the terminal.
fn printed(bench: &mut Command) -> Result<String> {
    let line = command::line(bench);
    let done = bench.stderr(Stdio::inherit()).output();
    let done = done.with_context(|| format!("could not start `{line}`"))?;
    if !done.status.success() {
        bail!("`{line}` failed ({})", done.status);
    }
    String::from_utf8(done.stdout).context("the bench prints text")
}

/// Runs the bench's own tests, which run each of its verbs at a tiny size. They share the target folder of
/// the workspace, and with it half of their dependencies.
pub(crate) fn tests() -> Command {
    let mut cargo = command::cargo();
    cargo.env("CARGO_TARGET_DIR", workspace::target());
    cargo.args(["test", "--locked", "--no-fail-fast", "--manifest-path", MANIFEST]);
    cargo
}
