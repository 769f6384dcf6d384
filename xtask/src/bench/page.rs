//! The pages that hold the last measured tables, with machine and commit above them and marks around
//! them; and how much other load there was during a measurement. It measures no subject itself.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// With more other load, two runs of one subject differ by more than two subjects do.
pub(crate) const MAX_OTHER_PERCENT: f64 = 5.0;

/// A block of a page in the documentation.
pub(crate) struct Page {
    /// Its path, relative to the project's folder.
    pub(crate) file: &'static str,
    /// The name of the block in its marks.
    pub(crate) block: &'static str,
}

impl Page {
    /// Replaces the block and prints that it did.
    ///
    /// # Errors
    /// When the page cannot be read or written, or has no marks.
    pub(crate) fn write(&self, block: &str) -> Result<()> {
        let Self { file, .. } = self;
        let page = workspace::root().join(file);
        let text = fs::read_to_string(&page).with_context(|| format!("could not read {file}"))?;
        let text = self
            .replace_block(&text, block)
            .with_context(|| format!("{file} has no marks for the block {}", self.block))?;
        fs::write(&page, text).with_context(|| format!("could not write {file}"))?;
        println!("wrote {file}");
        Ok(())
    }

    /// The page with everything between the marks replaced.
    fn replace_block(&self, page: &str, block: &str) -> Option<String> {
        let begin = format!("<!-- {}: begin -->", self.block);
        let end = format!("<!-- {}: end -->", self.block);
        let (head, rest) = page.split_once(&begin)?;
        let (_, tail) = rest.split_once(&end)?;
        Some(format!("{head}{begin}\n{block}{end}{tail}"))
    }
}

/// Prints that the page keeps its figures because the machine was busy.
pub(crate) fn report_unchanged(page: &Page, percent: f64) {
    println!("{} is unchanged: other load used {percent:.0} % of the machine", page.file);
}

/// "Machine: … Commit: …", the line above every table.
///
/// # Errors
/// When the kernel does not describe the machine.
pub(crate) fn circumstances() -> Result<String> {
    let describe = ["describe", "--always", "--dirty"];
    let commit = command::output(Command::new("git").current_dir(workspace::root()).args(describe))
        .unwrap_or_else(|_| "unknown".into());
    Ok(format!("Machine: {}. Commit: {}.", machine()?, commit.trim()))
}

fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let count = std::thread::available_parallelism()?;
    Ok(format!("{model}, {count} processors, Linux {}", kernel.trim()))
}

/// Measures the processor time that others than this process and its children use.
pub(crate) struct OtherLoad {
    begin: Instant,
    machine_ticks: u64,
    own_ticks: u64,
}

impl OtherLoad {
    /// Starts measuring.
    ///
    /// # Errors
    /// When the kernel's counters cannot be read.
    pub(crate) fn start() -> Result<Self> {
        let (machine_ticks, own_ticks) = (machine_ticks()?, own_ticks()?);
        Ok(Self { begin: Instant::now(), machine_ticks, own_ticks })
    }

    /// Percent of the machine that others used so far. A child of this process that still runs counts
    /// as other load.
    ///
    /// # Errors
    /// When the kernel's counters cannot be read.
    pub(crate) fn percent(&self) -> Result<f64> {
        let own = own_ticks()? - self.own_ticks;
        let others = (machine_ticks()? - self.machine_ticks).saturating_sub(own);
        let count = std::thread::available_parallelism()?.get();
        let ticks = self.begin.elapsed().as_secs_f64() * TICKS_PER_SECOND * count as f64;
        Ok(others as f64 * 100.0 / ticks)
    }
}

/// The unit in which Linux reports processor time, on every machine (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

fn machine_ticks() -> Result<u64> {
    parse_machine(&fs::read_to_string("/proc/stat")?).context("/proc/stat has no `cpu` line")
}

fn own_ticks() -> Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    parse_process(&stat).context("/proc/self/stat has no times")
}

/// Sums `cpu user nice system idle iowait irq softirq steal …` without idle and iowait.
fn parse_machine(stat: &str) -> Option<u64> {
    let ticks = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let busy = ticks.enumerate().filter(|(place, _)| *place != 3 && *place != 4);
    busy.map(|(_, ticks)| ticks.parse::<u64>().ok()).sum()
}

/// User and system time of the process and of its ended children: fields 14 to 17. The name in
/// parentheses may contain blanks, so fields are counted from behind it.
fn parse_process(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_whitespace().skip(11).take(4).map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_between_the_marks_is_replaced() {
        let get = Page { file: "unread", block: "get" };
        let page = "head\n<!-- get: begin -->\nold\n<!-- get: end -->\ntail\n";
        let expected = "head\n<!-- get: begin -->\nnew\n<!-- get: end -->\ntail\n";
        assert_eq!(get.replace_block(page, "new\n").as_deref(), Some(expected));
        assert_eq!(get.replace_block("no marks", "new"), None);
    }

    #[test]
    fn every_page_has_its_marks() {
        for page in [
            crate::bench::get::PAGE,
            crate::bench::engine::HIT_RATIO,
            crate::bench::engine::ENGINE,
            crate::bench::warmth::PAGE,
        ] {
            let text = fs::read_to_string(workspace::root().join(page.file)).expect("the page");
            assert!(page.replace_block(&text, "").is_some(), "{}", page.file);
        }
    }

    #[test]
    fn ticks_are_read_from_the_kernels_lines() {
        assert_eq!(parse_machine("cpu  1 2 3 400 500 6 7 8 9 9\ncpu0 1"), Some(27));
        assert_eq!(parse_machine("intr 1"), None);
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 20 3000 400 11 12";
        assert_eq!(parse_process(stat), Some(3520));
        assert!(own_ticks().is_ok() && machine_ticks().is_ok());
    }
}
