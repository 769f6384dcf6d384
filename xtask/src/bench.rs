//! `cargo xtask bench`: one honest comparison in one run, as server processor time a request.
//!
//! A single GET hit: a member (the very program that the images hold, one worker), a bare tonic
//! echo and memcached, each alone on processor 0, the same generator on processor 1, the runs of
//! the three interleaved, the median of three. Ratios travel between machines; times do not.

mod figures;
mod servers;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use self::figures::{Row, Run, Shape};
use self::servers::{Servers, VALUE_BYTES};
use crate::{command, image, packages, workspace};

/// Where the last table stands, between [`BEGIN`] and [`END`].
const PAGE: &str = "docs/benchmarks.md";
const BEGIN: &str = "<!-- get: begin -->";
const END: &str = "<!-- get: end -->";
/// What is run, besides our own programs.
const NEEDED: [packages::Needed; 3] = [
    packages::Needed { file: "memcached", package: "memcached" },
    packages::Needed { file: "taskset", package: "util-linux" },
    packages::Needed { file: "setpriv", package: "util-linux" },
];
/// As the bars of the promises name them: connections, and requests in flight on each.
const SHAPES: [Shape; 2] =
    [Shape { connections: 50, depth: 1 }, Shape { connections: 8, depth: 8 }];

/// `cargo xtask bench`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which comparison.
    #[arg(default_value = "get")]
    comparison: Comparison,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Comparison {
    /// A single GET hit: member, tonic echo, memcached.
    Get,
}

/// Measures, prints the table, and writes it into the page, unless the machine was too busy with
/// other things for the figures to mean anything.
///
/// # Errors
/// When something cannot be built or started, or a server gives a wrong answer.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Comparison::Get = args.comparison;
    if std::thread::available_parallelism()?.get() < 2 {
        bail!("the comparison pins server and load to processors of their own: two are needed");
    }
    packages::ensure(&NEEDED)?;
    let folder = if args.built {
        image::folder()
    } else {
        // One after the other, so that the member is built exactly as the images have it.
        image::programs()?;
        image::compile(&["larder-bench"])?
    };
    let ours = folder.join("larder-bench");
    let servers = Servers::start(&folder.join("larder-node"), &ours)?;
    let rows = measure(&servers, &ours, args.runs)?;
    let block = block(&rows, &servers)?;
    println!("\n{block}");
    if let Some(percent) = figures::disturbance(&rows).filter(|_| !args.dry_run) {
        println!("{PAGE} is left as it is: something else used {percent:.0} % of the machine");
        return Ok(());
    }
    if args.dry_run {
        return Ok(());
    }
    let page = workspace::root().join(PAGE);
    let text = fs::read_to_string(&page).with_context(|| format!("read {PAGE}"))?;
    let text = put_between(&text, &block).with_context(|| format!("{PAGE} has lost its marks"))?;
    fs::write(&page, text).with_context(|| format!("write {PAGE}"))?;
    println!("written to {PAGE}");
    Ok(())
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
    let describe = ["describe", "--always", "--dirty"];
    let commit = command::output(Command::new("git").current_dir(workspace::root()).args(describe))
        .unwrap_or_else(|_| "unknown".into());
    Ok(format!(
        "Machine: {}. Commit: {}. Values of {VALUE_BYTES} bytes; {} keys, all resident.\n\n\
         {}\n{}\nIdle member, nothing cached: {:.1} MB resident (bar: 15 MB).\n",
        machine()?,
        commit.trim(),
        servers::KEYS,
        figures::table(rows),
        figures::ratios(rows),
        servers.idle_bytes as f64 / 1e6,
    ))
}

fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let count = std::thread::available_parallelism()?;
    Ok(format!("{model}, {count} processors, Linux {}", kernel.trim()))
}

/// The page with everything between the marks replaced.
fn put_between(page: &str, block: &str) -> Option<String> {
    let (head, rest) = page.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n{block}{END}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let page = format!("head\n{BEGIN}\nold\n{END}\ntail\n");
        let expected = format!("head\n{BEGIN}\nnew\n{END}\ntail\n");
        assert_eq!(put_between(&page, "new\n"), Some(expected));
        assert_eq!(put_between("no marks", "new"), None);
    }

    #[test]
    fn the_page_has_its_marks() {
        let page = fs::read_to_string(workspace::root().join(PAGE)).expect("the page");
        assert!(put_between(&page, "").is_some());
    }
}
