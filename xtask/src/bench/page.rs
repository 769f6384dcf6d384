//! The pages that hold the last measured tables: machine and commit above them, marks around them,
//! and whether anything else ran meanwhile. It measures nothing of ours.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// Above this the same subject's figures differ by more between two runs than two subjects' do.
pub(crate) const MOST_FOREIGN_PERCENT: f64 = 5.0;

/// A block of a page in the documentation.
pub(crate) struct Page {
    /// From the project's folder.
    pub(crate) file: &'static str,
    /// The word in its marks.
    pub(crate) block: &'static str,
}

impl Page {
    /// Replaces the block, and says so.
    ///
    /// # Errors
    /// When the page cannot be read or written, or has lost its marks.
    pub(crate) fn write(&self, block: &str) -> Result<()> {
        let Self { file, .. } = self;
        let page = workspace::root().join(file);
        let text = fs::read_to_string(&page).with_context(|| format!("read {file}"))?;
        let text = self.put(&text, block).with_context(|| format!("{file} has lost its marks"))?;
        fs::write(&page, text).with_context(|| format!("write {file}"))?;
        println!("written to {file}");
        Ok(())
    }

    /// The page with everything between the marks replaced.
    fn put(&self, page: &str, block: &str) -> Option<String> {
        let begin = format!("<!-- {}: begin -->", self.block);
        let end = format!("<!-- {}: end -->", self.block);
        let (head, rest) = page.split_once(&begin)?;
        let (_, tail) = rest.split_once(&end)?;
        Some(format!("{head}{begin}\n{block}{end}{tail}"))
    }
}

/// Says that a busy machine's figures do not reach the page.
pub(crate) fn left_alone(page: &Page, percent: f64) {
    println!("{} is left as it is: something else used {percent:.0} % of the machine", page.file);
}

/// "Machine: … Commit: …", as it stands above every table.
///
/// # Errors
/// When the machine does not say what it is.
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

/// Tells afterwards what everything but this process and its children used of the machine.
pub(crate) struct Bystanders {
    begin: Instant,
    busy: u64,
    ours: u64,
}

impl Bystanders {
    /// From now on.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn watch() -> Result<Self> {
        Ok(Self { begin: Instant::now(), busy: busy()?, ours: ours()? })
    }

    /// Percent of the machine that others used so far. Of our children those count that ended.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn percent(&self) -> Result<f64> {
        let others = (busy()? - self.busy).saturating_sub(ours()? - self.ours);
        let count = std::thread::available_parallelism()?.get();
        let ticks = self.begin.elapsed().as_secs_f64() * TICKS_PER_SECOND * count as f64;
        Ok(others as f64 * 100.0 / ticks)
    }
}

/// What Linux counts processor time in, on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

fn busy() -> Result<u64> {
    machine_ticks(&fs::read_to_string("/proc/stat")?).context("/proc/stat has no line of all")
}

fn ours() -> Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    process_ticks(&stat).context("/proc/self/stat has no times")
}

/// Of `cpu user nice system idle iowait irq softirq steal …` everything but idle and iowait.
fn machine_ticks(stat: &str) -> Option<u64> {
    let ticks = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().take(8);
    let busy = ticks.enumerate().filter(|(place, _)| *place != 3 && *place != 4);
    busy.map(|(_, ticks)| ticks.parse::<u64>().ok()).sum()
}

/// User and system time, own and of ended children: fields 14 to 17. The name in parentheses may
/// hold blanks, so counting begins behind it.
fn process_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_whitespace().skip(11).take(4).map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let ours = Page { file: "unread", block: "get" };
        let page = "head\n<!-- get: begin -->\nold\n<!-- get: end -->\ntail\n";
        let expected = "head\n<!-- get: begin -->\nnew\n<!-- get: end -->\ntail\n";
        assert_eq!(ours.put(page, "new\n").as_deref(), Some(expected));
        assert_eq!(ours.put("no marks", "new"), None);
    }

    #[test]
    fn every_page_has_its_marks() {
        for page in
            [crate::bench::get::PAGE, crate::bench::engine::HIT_RATIO, crate::bench::engine::ENGINE]
        {
            let text = fs::read_to_string(workspace::root().join(page.file)).expect("the page");
            assert!(page.put(&text, "").is_some(), "{}", page.file);
        }
    }

    #[test]
    fn ticks_are_read_from_the_kernels_lines() {
        assert_eq!(machine_ticks("cpu  1 2 3 400 500 6 7 8 9 9\ncpu0 1"), Some(27));
        assert_eq!(machine_ticks("intr 1"), None);
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 100 20 3000 400 11 12";
        assert_eq!(process_ticks(stat), Some(3520));
        assert!(ours().is_ok() && busy().is_ok());
    }
}
