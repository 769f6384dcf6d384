//! `cargo xtask bench get`: server processor time per request.
//!
//! It measures a single GET hit on a member (the program of the images, with one worker), on a bare
//! tonic echo and on memcached. Each runs alone on processor 0, with the same generator on processor
//! 1; the runs of the three are interleaved, and the median of three is reported. Ratios can be
//! compared between machines; times cannot.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::figures::{self, Row, Run, Shape};
use super::page::{self, Page};
use super::servers::{self, Servers, VALUE_BYTES};
use crate::{image, packages};

/// The page that holds the last table.
pub(super) const PAGE: Page = Page { file: "docs/benchmarks.md", block: "get" };
/// Programs that the comparison runs in addition to those of this workspace.
const NEEDED: [packages::Needed; 3] = [
    packages::Needed { file: "memcached", package: "memcached" },
    packages::Needed { file: "taskset", package: "util-linux" },
    packages::Needed { file: "setpriv", package: "util-linux" },
];
/// The shapes for which there are bars.
const SHAPES: [Shape; 2] =
    [Shape { connections: 50, depth: 1 }, Shape { connections: 8, depth: 8 }];

/// `cargo xtask bench get`
#[derive(clap::Args)]
pub(crate) struct Get {
    /// Measurements of each server in each shape.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// Uses the programs of the last build.
    #[arg(long)]
    built: bool,
    /// Prints the table without changing the page.
    #[arg(long)]
    dry_run: bool,
}

/// Measures, prints the table and writes it into the page. The page keeps its table when other load
/// on the machine makes the new figures meaningless.
///
/// # Errors
/// When something cannot be built or started, or a server gives a wrong answer.
pub(crate) fn run(args: &Get) -> Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("the comparison pins server and generator to different processors and needs two");
    }
    packages::ensure(&NEEDED)?;
    let folder = if args.built {
        image::folder()
    } else {
        // Two builds, so that the member is built exactly as for the images.
        image::programs()?;
        image::release(&["larder-bench"])?
    };
    let bench = folder.join("larder-bench");
    let servers = Servers::start(&folder.join("larder-node"), &bench)?;
    let rows = measure(&servers, &bench, args.runs)?;
    let block = block(&rows, &servers)?;
    println!("\n{block}");
    if let Some(percent) = figures::excessive_other_load(&rows).filter(|_| !args.dry_run) {
        page::report_unchanged(&PAGE, percent);
        return Ok(());
    }
    if args.dry_run {
        return Ok(());
    }
    PAGE.write(&block)
}

/// The servers take turns, so that other load of some seconds affects all of them.
fn measure(servers: &Servers, generator: &Path, runs: u8) -> Result<Vec<Row>> {
    let mut runs_by_row: BTreeMap<(usize, usize), Vec<Run>> = BTreeMap::new();
    for turn in 1..=runs {
        for (place, shape) in SHAPES.iter().enumerate() {
            for (which, server) in servers.in_turn().iter().enumerate() {
                let depth = [
                    "--connections",
                    &shape.connections.to_string(),
                    "--depth",
                    &shape.depth.to_string(),
                ]
                .map(String::from);
                let run = Run::parse(&servers::load(generator, server, &depth)?)?;
                println!(
                    "run {turn} of {runs}, {shape}, {}: {:.2} us, {:.0} per second",
                    server.name, run.server_us, run.operations_per_second
                );
                runs_by_row.entry((place, which)).or_default().push(run);
            }
        }
    }
    runs_by_row
        .into_iter()
        .map(|((place, which), runs)| {
            let median = figures::median(runs).context("there was no run")?;
            Ok(Row { server: servers.in_turn()[which].name, shape: SHAPES[place], median })
        })
        .collect()
}

/// The text between the marks of the page.
fn block(rows: &[Row], servers: &Servers) -> Result<String> {
    Ok(format!(
        "{} Values of {VALUE_BYTES} bytes; {} keys, all resident.\n\n\
         {}\n{}\nIdle member, nothing cached: {:.1} MB resident (bar: 15 MB).\n",
        page::circumstances()?,
        servers::KEYS,
        figures::table(rows),
        figures::ratios(rows),
        servers.idle_bytes as f64 / 1e6,
    ))
}
