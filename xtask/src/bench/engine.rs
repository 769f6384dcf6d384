//! `cargo xtask bench hit-ratio`, `cargo xtask bench engine` and `cargo xtask soak engine`: builds
//! the engine's bench (`node/engine/bench`, a workspace of its own), runs it and writes its output
//! into the pages. It measures nothing itself.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::page::{self, MAX_OTHER_PERCENT, OtherLoad, Page};
use crate::{command, workspace};

/// The bench's manifest, relative to the project's folder.
const MANIFEST: &str = "node/engine/bench/Cargo.toml";
/// The pages that hold the tables.
pub(super) const HIT_RATIO: Page =
    Page { file: "docs/benchmarks/hit-ratio.md", block: "hit-ratio" };
pub(super) const ENGINE: Page = Page { file: "docs/benchmarks/engine.md", block: "engine" };
/// Folder of the plots, relative to the project's folder.
const PLOTS: &str = "docs/benchmarks/hit-ratio";

/// `cargo xtask bench hit-ratio`
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench hit-ratio --traces ~/traces
  cargo xtask bench hit-ratio --only zipf-0.99,loop --sizes 1,10 --dry-run")]
pub(crate) struct HitRatio {
    /// Folder of recorded request streams: NAME.trace or NAME.trace.xz, big-endian 32-bit keys,
    /// one per request. Default: the variable LARDER_TRACES. Without either, only generated streams
    /// run.
    #[arg(long, value_name = "FOLDER")]
    traces: Option<std::path::PathBuf>,
    /// Only the streams of these names, separated by commas.
    #[arg(long, value_name = "NAMES")]
    only: Option<String>,
    /// Sizes of the caches in percent of a stream's distinct keys, separated by commas.
    #[arg(long, value_name = "PERCENTS")]
    sizes: Option<String>,
    /// Requests of each generated stream.
    #[arg(long)]
    requests: Option<u32>,
    /// Prints the tables without changing the page and the plots.
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
    /// Measurements of each cache in each shape; the tables show the median.
    #[arg(long)]
    rounds: Option<u32>,
    /// Operations per thread and round.
    #[arg(long)]
    operations: Option<u32>,
    /// Capacity of the caches whose memory is measured, mebibytes.
    #[arg(long, value_name = "MEBIBYTES")]
    budget_mib: Option<u64>,
    /// Only these caches, separated by commas.
    #[arg(long, value_name = "NAMES")]
    only: Option<String>,
    /// Prints the tables without changing the page.
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
    /// Threads that read and fill. Default: one per processor.
    #[arg(long)]
    threads: Option<u32>,
}

/// Measures hit ratios and writes them into the page, even on a busy machine, because they do not
/// depend on time. A run of selected streams or sizes leaves the page unchanged: it holds all.
///
/// # Errors
/// When the bench cannot be built or fails.
pub(crate) fn hit_ratio(args: &HitRatio) -> Result<()> {
    let selected = args.only.is_some() || args.sizes.is_some() || args.requests.is_some();
    let keep_page = args.dry_run || selected;
    let mut bench = build("hit-ratio")?;
    if let Some(folder) = &args.traces {
        let folder =
            std::path::absolute(folder).context("could not resolve the folder of traces")?;
        bench.arg("--traces").arg(folder);
    }
    add_option(&mut bench, "--only", args.only.as_ref());
    add_option(&mut bench, "--sizes", args.sizes.as_ref());
    add_option(&mut bench, "--requests", args.requests.as_ref());
    if !keep_page {
        bench.args(["--plots", PLOTS]);
    }
    let tables = output(&mut bench)?;
    let block = format!("{}\n\n{tables}", page::circumstances()?);
    println!("\n{block}");
    if keep_page { Ok(()) } else { HIT_RATIO.write(&block) }
}

/// Measures speed and memory. The page is written only when every cache was measured and other load
/// on the machine was low enough for the figures to mean something.
///
/// # Errors
/// When the bench cannot be built or fails.
pub(crate) fn engine(args: &Engine) -> Result<()> {
    let mut bench = build("engine")?;
    add_option(&mut bench, "--rounds", args.rounds.as_ref());
    add_option(&mut bench, "--operations", args.operations.as_ref());
    add_option(&mut bench, "--budget-mib", args.budget_mib.as_ref());
    add_option(&mut bench, "--only", args.only.as_ref());
    let other_load = OtherLoad::start()?;
    let tables = output(&mut bench)?;
    let other_percent = other_load.percent()?;
    let block = format!(
        "{} Other load used {other_percent:.0} % of it during the run.\n\n{tables}",
        page::circumstances()?
    );
    println!("\n{block}");
    if args.dry_run || args.only.is_some() {
        return Ok(());
    }
    if other_percent > MAX_OTHER_PERCENT {
        page::report_unchanged(&ENGINE, other_percent);
        return Ok(());
    }
    ENGINE.write(&block)
}

/// Runs the soak and shows its progress.
///
/// # Errors
/// When the bench cannot be built, or resident memory is not flat.
pub(crate) fn soak(args: &Soak) -> Result<()> {
    if !(args.minutes > 0.0 && args.minutes <= 24.0 * 60.0) {
        bail!("--minutes must be above 0 and at most 1440 (a day)");
    }
    let mut bench = build("soak")?;
    bench.args(["--seconds", &format!("{:.0}", (args.minutes * 60.0).max(1.0))]);
    add_option(&mut bench, "--budget-mib", args.budget_mib.as_ref());
    add_option(&mut bench, "--threads", args.threads.as_ref());
    command::shown(&mut bench)
}

fn add_option(bench: &mut Command, flag: &str, value: Option<&impl ToString>) {
    if let Some(value) = value {
        bench.arg(flag).arg(value.to_string());
    }
}

/// Builds the bench and returns the command that runs one of its verbs.
fn build(verb: &str) -> Result<Command> {
    let cargo = |subcommand: &str| {
        let mut cargo = command::cargo();
        cargo.args([subcommand, "--release", "--locked", "--manifest-path", MANIFEST]);
        cargo
    };
    command::shown(&mut cargo("build"))?;
    let mut run = cargo("run");
    run.args(["--quiet", "--", verb]);
    Ok(run)
}

/// Runs the bench and returns its standard output; its progress goes to the terminal.
fn output(bench: &mut Command) -> Result<String> {
    let line = command::line(bench);
    let done = bench.stderr(Stdio::inherit()).output();
    let done = done.with_context(|| format!("could not start `{line}`"))?;
    if !done.status.success() {
        bail!("`{line}` failed ({})", done.status);
    }
    String::from_utf8(done.stdout).context("the bench did not print UTF-8")
}

/// The command for the bench's own tests, which run each of its verbs at a tiny size. They share the
/// target folder of the workspace, and with it half of their dependencies.
pub(crate) fn tests() -> Command {
    let mut cargo = command::cargo();
    cargo.env("CARGO_TARGET_DIR", workspace::target());
    cargo.args(["test", "--locked", "--no-fail-fast", "--manifest-path", MANIFEST]);
    cargo
}
