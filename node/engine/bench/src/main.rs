//! Hit ratios: every policy of the engine, other libraries, and the optimum, in one run.
//!
//! `larder-engine-bench [--traces FOLDER] [--only NAME,…] [--sizes PERCENT,…]` prints one Markdown
//! table per workload. A trace is a file of big-endian 32-bit keys, one a request, plain or
//! `.xz`; without `--traces`, and without the variable `LARDER_TRACES`, only generated ones run.
//! Everything counts entries, all of one size.
//!
//! Last run (21 November 2026, two shared cores; hit % of the default against the best of the other
//! libraries, which is another one in nearly every row):
//!
//! | workload, slots | TinyLfu | best library | optimum |
//! |---|---|---|---|
//! | web07, 20 / 204 | 24.3 / 43.7 | 24.3 / 43.5 | 36.9 / 53.4 |
//! | web07, 1,024 / 4,096 | 53.1 / 62.2 | 53.6 / 62.9 | 63.7 / 71.7 |
//! | orm-busy, 763 / 7,634 | 76.8 / 88.9 | 77.0 / 89.5 | 82.8 / 93.3 |
//! | zipf-0.99, scan-mix, shifting, 5 % | 70.9 / 49.6 / 64.6 | 71.6 / 50.6 / 64.7 | |
//! | loop, 50 / 80 / 90 % | 34.0 / 77.3 / 86.9 | 48.4 / 75.4 / 87.4 | 49.0 / 78.4 / 88.2 |

mod belady;
mod subjects;
mod workloads;

use std::path::PathBuf;

use anyhow::{Context, bail};

use workloads::Workload;

/// Percentages of a workload's distinct keys that the caches hold.
const SIZES: [f64; 6] = [0.1, 0.5, 1.0, 5.0, 10.0, 20.0];

struct Args {
    traces: Option<PathBuf>,
    only: Vec<String>,
    sizes: Vec<f64>,
}

fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Args> {
    let traces = std::env::var_os("LARDER_TRACES").map(PathBuf::from);
    let mut args = Args { traces, only: Vec::new(), sizes: SIZES.to_vec() };
    while let Some(flag) = words.next() {
        let value = words.next().with_context(|| format!("{flag} takes a value"))?;
        match flag.as_str() {
            "--traces" => args.traces = Some(value.into()),
            "--only" => args.only = value.split(',').map(String::from).collect(),
            "--sizes" => {
                let sizes: Result<_, _> = value.split(',').map(str::parse).collect();
                args.sizes = sizes.context("--sizes takes percentages")?;
            }
            other => bail!("unknown flag {other}; there are --traces, --only and --sizes"),
        }
    }
    Ok(args)
}

fn main() -> anyhow::Result<()> {
    let args = parse(std::env::args().skip(1))?;
    let mut workloads = match &args.traces {
        Some(folder) => workloads::traces(folder)?,
        None => Vec::new(),
    };
    workloads.extend(workloads::generated());
    workloads.retain(|workload| args.only.is_empty() || args.only.contains(&workload.name));
    for workload in workloads {
        table(&workload, &args.sizes);
    }
    Ok(())
}

fn table(workload: &Workload, sizes: &[f64]) {
    let distinct = workload.distinct();
    let slots: Vec<usize> =
        sizes.iter().map(|size| ((distinct as f64 * size / 100.0) as usize).max(8)).collect();
    println!("\n## {}: {} requests, {distinct} keys\n", workload.name, workload.keys.len());
    let heads: Vec<String> =
        sizes.iter().zip(&slots).map(|(size, slots)| format!("{size} % = {slots}")).collect();
    println!("| hit % | {} |", heads.join(" | "));
    println!("|---|{}", "---|".repeat(sizes.len()));
    let mut best_rival = vec![0.0f64; slots.len()];
    let mut default = Vec::new();
    for name in subjects::NAMES {
        let mut cells = Vec::new();
        for (&slots, best) in slots.iter().zip(&mut best_rival) {
            let mut subject = subjects::build(name, slots, workload);
            let hits = workload.keys.iter().filter(|&&key| subject(key)).count();
            let percent = hits as f64 * 100.0 / workload.keys.len() as f64;
            if subjects::is_rival(name) {
                *best = best.max(percent);
            } else if *name == larder_engine::PolicyKind::default().name() {
                default.push(percent);
            }
            cells.push(format!("{percent:.2}"));
        }
        println!("| {name} | {} |", cells.join(" | "));
    }
    let optimum = slots.iter().map(|&slots| belady::hits(&workload.keys, slots));
    let optimum = optimum.map(|hits| hits as f64 * 100.0 / workload.keys.len() as f64);
    let optimum: Vec<String> = optimum.map(|percent| format!("{percent:.2}")).collect();
    println!("| Bélády | {} |", optimum.join(" | "));
    let lead =
        default.iter().zip(&best_rival).map(|(ours, theirs)| format!("{:+.2}", ours - theirs));
    println!("| default − best library | {} |", lead.collect::<Vec<_>>().join(" | "));
}
