//! `cargo xtask bench get`: server processor time a request.
//!
//! A single GET hit: a member (the very program that the images hold, one worker), a bare tonic
//! echo and memcached, each alone on processor 0, the same generator on processor 1, the runs of
//! the three interleaved, the median of three. Ratios travel between machines; times do not.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::figures::{self, Row, Run, Shape};
use super::page::{self, Page};
use super::servers::{self, Servers, VALUE_BYTES};
use crate::{image, packages};

/// Where the last table stands.
pub(super) const PAGE: Page = Page { file: "docs/benchmarks.md", block: "get" };
/// What is run, besides our own programs.
const NEEDED: [packages::Needed; 3] = [
    packages::Needed { file: "memcached", package: "memcached" },
    packages::Needed { file: "taskset", package: "util-linux" },
    packages::Needed { file: "setpriv", package: "util-linux" },
];
/// As the bars of the promises name them: connections, and requests in flight on each.
const SHAPES: [Shape; 2] =
    [Shape { connections: 50, depth: 1 }, Shape { connections: 8, depth: 8 }];

/// `cargo xtask bench get`
#[derive(clap::Args)]
pub(crate) struct Get {
    /// Times that each server is measured in each shape.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// Takes the programs as they were last built.
    #[arg(long)]
    built: bool,
    /// Prints the table and leaves the page as it is.
    #[arg(long)]
    dry_run: bool,
}

/// Measures, prints the table, and writes it into the page, unless the machine was too busy with
/// other things for the figures to mean anything.
///
/// # Errors
/// When something cannot be built or started, or a server gives a wrong answer.
pub(crate) fn run(args: &Get) -> Result<()> {
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("the comparison pins server and load to processors of their own: two are needed");
    }
    packages::ensure(&NEEDED)?;
    let folder = if args.built {
        image::folder()
    } else {
        // One after the other, so that the member is built exactly as the images have it.
        image::programs()?;
        image::release(&["larder-bench"])?
    };
    let ours = folder.join("larder-bench");
    let servers = Servers::start(&folder.join("larder-node"), &ours)?;
    let rows = measure(&servers, &ours, args.runs)?;
    let block = block(&rows, &servers)?;
    println!("\n{block}");
    if let Some(percent) = figures::disturbance(&rows).filter(|_| !args.dry_run) {
        page::left_alone(&PAGE, percent);
        return Ok(());
    }
    if args.dry_run {
        return Ok(());
    }
    PAGE.write(&block)
}

/// The servers take turns, so that a disturbance of some seconds meets all of them.
fn measure(servers: &Servers, generator: &Path, runs: u8) -> Result<Vec<Row>> {
    let mut all: BTreeMap<(usize, usize), Vec<Run>> = BTreeMap::new();
    for turn in 1..=runs {
        for (place, shape) in SHAPES.iter().enumerate() {
            for (which, server) in servers.all().iter().enumerate() {
                let depth = [
                    "--connections",
                    &shape.connections.to_string(),
                    "--depth",
                    &shape.depth.to_string(),
                ]
                .map(String::from);
                let run = Run::parse(&servers::load(generator, server, &depth)?)?;
                println!(
                    "run {turn} of {runs}, {shape}, {}: {:.2} us, {:.0} a second",
                    server.name, run.server_us, run.operations_per_second
                );
                all.entry((place, which)).or_default().push(run);
            }
        }
    }
    all.into_iter()
        .map(|((place, which), runs)| {
            let median = figures::median(runs).context("no run")?;
            Ok(Row { server: servers.all()[which].name, shape: SHAPES[place], median })
        })
        .collect()
}

/// What stands between the marks.
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
