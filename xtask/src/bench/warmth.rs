//! `cargo xtask bench warmth`: what a rollout, scaling, a drain and failures cost readers and the
//! origin. Runs the test `warmth::measure` of `e2e/` on a real Kubernetes and writes its table into
//! the page. It measures nothing itself.

use std::fs;

use anyhow::{Context as _, Result};

use super::page::{self, Page};
use crate::{test, workspace};

/// The page that holds the table.
pub(super) const PAGE: Page = Page { file: "docs/benchmarks/warmth.md", block: "warmth" };
/// Folder of the plots, relative to the project's folder.
const PLOTS: &str = "docs/benchmarks/warmth";
/// The promises that have a scenario.
const NAMES: [&str; 7] = ["W1", "W2", "W3", "W4", "W5", "W6", "W7"];

/// `cargo xtask bench warmth`
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask bench warmth
  cargo xtask bench warmth --scenario W1,W4 --seconds 60 --keep")]
pub(crate) struct Warmth {
    /// Only these changes, separated by commas: W1 rolling change, W2 3 to 4 to 3 members, W3
    /// drained node, W4 killed member, W5 dead node, W6 all members killed, W7 restart in place.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = NAMES)]
    scenario: Vec<String>,
    /// Longest observation after a change began; it ends earlier once the hit ratio is back.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(20..=600))]
    seconds: u64,
    /// Keeps the cluster for the next run, if this one creates it.
    #[arg(long)]
    keep: bool,
    /// Prints the table without changing the page and the plots.
    #[arg(long)]
    dry_run: bool,
}

/// Measures, shows the progress, prints the table and writes it into the page with its plots. A run
/// of selected changes leaves both unchanged: the page holds all. A busy machine does not keep
/// the page: each row has the load average, which hit ratios hardly depend on and times do.
///
/// # Errors
/// When there can be no Kubernetes on this machine, or a change cannot be measured.
pub(crate) fn run(args: &Warmth) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder for the results")?;
    let table = folder.path().join("table.md");
    let mut variables = vec![
        ("LARDER_WARMTH_SECONDS", args.seconds.to_string()),
        ("LARDER_WARMTH_TABLE", table.display().to_string()),
    ];
    let keep_page = args.dry_run || !args.scenario.is_empty();
    if !args.scenario.is_empty() {
        variables.push(("LARDER_WARMTH_NAMES", args.scenario.join(",")));
    }
    if !keep_page {
        let plots = workspace::root().join(PLOTS);
        fs::create_dir_all(&plots).with_context(|| format!("make {}", plots.display()))?;
        variables.push(("LARDER_WARMTH_PLOTS", plots.display().to_string()));
    }
    test::warmth(args.keep, &variables)?;
    let table = fs::read_to_string(&table).context("read the table")?;
    let plots: String = NAMES.iter().map(|name| format!("\n{}\n", plot(name))).collect();
    let block = format!("{}\n\n{table}", page::circumstances()?);
    println!("\n{block}");
    if keep_page { Ok(()) } else { PAGE.write(&format!("{block}{plots}")) }
}

/// The page's link to a plot.
fn plot(name: &str) -> String {
    let file = name.to_lowercase();
    format!("![Hit ratio and the origin's calls over time, {name}](warmth/{file}.svg)")
}
