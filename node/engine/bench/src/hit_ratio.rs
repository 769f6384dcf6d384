//! Hit ratios of every policy of the engine, of other libraries and of the optimum, for the same
//! request streams and cache sizes. All entries have the same size.
//!
//! Runs of different subjects and sizes are independent and a hit ratio does not depend on time, so
//! they run on all processors in parallel.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use parking_lot::Mutex;

use crate::progress::Progress;
use crate::table::{self, Grid, Size};
use crate::workloads::{self, Workload};
use crate::{belady, plot, subjects};

/// Minimum number of slots. With fewer, rounding dominates the result.
const FEWEST_SLOTS: usize = 8;
/// Default number of requests of a generated stream.
const REQUESTS: u32 = 1_000_000;

/// `hit-ratio`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folder of recorded streams: NAME.trace or NAME.trace.xz with big-endian 32-bit keys.
    #[arg(long, env = "LARDER_TRACES", value_name = "FOLDER")]
    traces: Option<PathBuf>,
    /// Run only these streams.
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Cache sizes in percent of a stream's distinct keys. A loop is also run at 50 and 90.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "PERCENT",
        default_value = "0.1,0.5,1,2,5,10,20"
    )]
    sizes: Vec<f64>,
    /// Number of requests of each generated stream.
    #[arg(long, default_value_t = REQUESTS)]
    requests: u32,
    /// Folder for one plot per stream, NAME.svg.
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
}

/// Runs everything. Prints a summary and then a table for each stream.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut streams = match &args.traces {
        Some(folder) => workloads::traces(folder)?,
        None => Vec::new(),
    };
    let recorded = streams.len();
    streams.extend(workloads::generated(args.requests));
    streams.retain(|stream| args.only.is_empty() || args.only.contains(&stream.name));
    ensure!(!streams.is_empty(), "no stream is named {}", args.only.join(" or "));
    if let Some(folder) = &args.plots {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let mut grids = Vec::new();
    for stream in &streams {
        let grid = measure(stream, &args.sizes);
        if let Some(folder) = &args.plots {
            plot::draw(&grid, &folder.join(format!("{}.svg", grid.name)))?;
        }
        grids.push(grid);
    }
    if recorded == 0 {
        println!("No recorded streams (`--traces`): only generated ones were run.\n");
    }
    print!("{}", table::summary(&grids));
    for grid in &grids {
        print!("\n{}", table::full(grid, args.plots.is_some()));
    }
    Ok(())
}

/// Runs one stream through every subject at every size.
fn measure(stream: &Workload, percents: &[f64]) -> Grid {
    let distinct = stream.distinct();
    let mut percents = percents.to_vec();
    percents.extend(stream.further_sizes());
    let size = |&percent: &f64| {
        let slots = (distinct as f64 * percent / 100.0) as usize;
        Size { percent, slots: slots.max(FEWEST_SLOTS) }
    };
    let sizes: Vec<Size> = percents.iter().map(size).collect();
    let next = belady::next_uses(&stream.keys);
    let names: Vec<&str> = subjects::NAMES.iter().copied().chain([table::OPTIMUM]).collect();
    let cells = in_parallel(&stream.name, names.len() * sizes.len(), |cell| {
        let (name, slots) = (names[cell / sizes.len()], sizes[cell % sizes.len()].slots);
        let hits = if name == table::OPTIMUM {
            belady::hits(&next, slots)
        } else {
            let mut subject = subjects::build(name, slots);
            stream.keys.iter().filter(|&&key| subject(key)).count()
        };
        hits as f64 * 100.0 / stream.keys.len() as f64
    });
    let rows = names.iter().zip(cells.chunks(sizes.len()));
    let rows = rows.map(|(&name, cells)| (name, cells.to_vec())).collect();
    let (name, requests) = (stream.name.clone(), stream.keys.len());
    Grid { name, requests, distinct, sizes, rows }
}

/// Runs `count` jobs on one thread per processor and returns their results in order.
fn in_parallel(name: &str, count: usize, job: impl Fn(usize) -> f64 + Sync) -> Vec<f64> {
    let progress = Progress::new(name, count);
    let (next, results) = (AtomicUsize::new(0), Mutex::new(vec![0.0; count]));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    let result = job(at);
                    results.lock()[at] = result;
                    progress.step();
                }
            });
        }
    });
    results.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_parallel_jobs_are_in_order() {
        assert_eq!(in_parallel("squares", 100, |at| (at * at) as f64)[99], 9801.0);
    }

    #[test]
    fn lru_and_fifo_agree_with_their_definitions() {
        let keys = &workloads::generated(60_000)[1].keys;
        for slots in [50, 700] {
            for (name, moves_up) in [("Lru", true), ("Fifo", false)] {
                let mut order: Vec<u32> = Vec::new();
                let mut subject = subjects::build(name, slots);
                for &key in keys {
                    let place = order.iter().position(|&held| held == key);
                    assert_eq!(subject(key), place.is_some(), "{name} of {slots}");
                    match place {
                        Some(place) if moves_up => order[place..].rotate_left(1),
                        Some(_) => {}
                        None => order.push(key),
                    }
                    if order.len() > slots {
                        order.remove(0);
                    }
                }
            }
        }
    }

    #[test]
    fn nothing_beats_the_optimum() {
        let stream = &workloads::generated(20_000)[0];
        let grid = measure(stream, &[1.0, 10.0]);
        let (_, best) = grid.rows.last().expect("the optimum is the last row");
        for (name, cells) in &grid.rows {
            assert!(cells.iter().zip(best).all(|(cell, best)| cell <= best), "{name}");
        }
    }
}
