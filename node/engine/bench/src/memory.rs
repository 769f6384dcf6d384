//! Resident memory per entry. Each cache is filled in a new process, because an allocator does not
//! return all memory to the system.

use std::fs;
use std::process::Command;

use anyhow::{Context, ensure};
use bytes::Bytes;

use crate::contenders;
use crate::workloads::Random;

/// Represents values of mixed sizes.
pub(crate) const MIXED: usize = 0;
/// Sizes of mixed values in bytes: as likely from 64 to 128 as from 32 Ki to 64 Ki.
const MIXED_FROM: f64 = 64.0;
const MIXED_DOUBLINGS: f64 = 10.0;

/// `fill`
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of the cache.
    #[arg(long)]
    name: String,
    /// Size of each value; 0 means mixed sizes from 64 B to 64 KiB.
    #[arg(long)]
    value_bytes: usize,
    /// Capacity of the cache in bytes.
    #[arg(long)]
    budget: u64,
}

/// Memory of a filled cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    /// Number of entries.
    pub(crate) entries: u64,
    /// Growth of the process's resident memory in bytes.
    pub(crate) resident: u64,
    /// Bytes that the cache charges for its entries; 0 if it does not report them.
    pub(crate) charged: u64,
}

impl Cost {
    /// Resident bytes per entry in addition to its key and value.
    pub(crate) fn overhead(&self, value_bytes: usize) -> f64 {
        let payload = (contenders::KEY_BYTES + value_bytes) as f64;
        self.resident as f64 / self.entries as f64 - payload
    }
}

/// Measures one cache in a new process.
pub(crate) fn measure(name: &str, value_bytes: usize, budget: u64) -> anyhow::Result<Cost> {
    let mut child = Command::new(std::env::current_exe().context("find this program")?);
    child.args(["fill", "--name", name, "--value-bytes", &value_bytes.to_string()]);
    child.args(["--budget", &budget.to_string()]);
    let done = child.output().context("start this program again")?;
    let words = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "filling {name} failed: {words}");
    parse(&String::from_utf8_lossy(&done.stdout))
        .with_context(|| format!("filling {name} printed no figures"))
}

/// Runs in the child process: inserts one and a half times as many new keys as fit, then
/// alternately overwrites and inserts, and prints the figures.
pub(crate) fn fill(args: &Args) -> anyhow::Result<()> {
    let Args { name, value_bytes, budget } = args;
    let mut random = Random::new(0xF111);
    let longest = Bytes::from(vec![7; (*value_bytes).max(64 << 10)]);
    let mut value = || {
        let mixed = *value_bytes == MIXED;
        longest.slice(..if mixed { mixed_bytes(&mut random) } else { *value_bytes })
    };
    // Mixed sizes have ten equally likely doublings, so their mean is about 9.2 KiB.
    let slots =
        contenders::slots(*budget, if *value_bytes == MIXED { 9 << 10 } else { *value_bytes });
    let before = resident_bytes()?;
    let cache = contenders::build(name, *budget, (*value_bytes).max(64));
    let fresh = slots as u64 * 3 / 2;
    (0..fresh).for_each(|key| cache.write(key, &value()));
    for step in 0..slots as u64 / 2 {
        cache.write(fresh - 1 - step % (slots as u64 / 4 + 1), &value());
        cache.write(fresh + step, &value());
    }
    let entries = cache.entries(slots as u64 * 2);
    let resident = resident_bytes()?.saturating_sub(before);
    println!("{entries} {resident} {}", cache.charged().unwrap_or(0));
    Ok(())
}

/// A random size of a mixed value.
pub(crate) fn mixed_bytes(random: &mut Random) -> usize {
    (MIXED_FROM * (random.unit() * MIXED_DOUBLINGS).exp2()) as usize
}

fn parse(line: &str) -> Option<Cost> {
    let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
    Some(Cost { entries: numbers.next()??, resident: numbers.next()??, charged: numbers.next()?? })
}

/// Anonymous resident memory of this process. It excludes the program's text, which becomes
/// resident as its pages are first executed.
pub(crate) fn resident_bytes() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kibibytes.context("/proc/self/status has no RssAnon")? << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overhead_excludes_key_and_value() {
        let cost = Cost { entries: 10, resident: 1_720, charged: 0 };
        assert_eq!(cost.overhead(64), 100.0);
        assert_eq!(parse("10 1720 0\n"), Some(cost));
        assert_eq!(parse("10 oops"), None);
    }

    #[test]
    fn mixed_sizes_are_within_their_bounds() {
        let mut random = Random::new(1);
        let sizes: Vec<usize> = (0..10_000).map(|_| mixed_bytes(&mut random)).collect();
        assert!(sizes.iter().all(|&size| (64..=65_536).contains(&size)));
        let mean = sizes.iter().sum::<usize>() / sizes.len();
        assert!((9_000..10_000).contains(&mean), "{mean}");
    }

    #[test]
    fn resident_memory_grows_with_touched_memory() {
        let before = resident_bytes().expect("linux");
        let held = vec![1u8; 32 << 20];
        assert!(resident_bytes().expect("linux") >= before + (24 << 20));
        drop(held);
    }
}
