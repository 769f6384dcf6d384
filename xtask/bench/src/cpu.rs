//! Processor time from the kernel's accounting: exact, neither sampled nor estimated.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Processor time of all current threads of a process, in nanoseconds.
///
/// # Errors
/// No process has this id.
pub(crate) fn of_process(pid: u32) -> Result<u64> {
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    let mut sum = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("read {}", tasks.display()))? {
        // A thread that has ended since the listing has no file any more.
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            sum += first_number(&text).unwrap_or(0);
        }
    }
    Ok(sum)
}

/// Busy time of the machine, averaged over its processors, in nanoseconds with a resolution of ten
/// milliseconds.
///
/// # Errors
/// `/proc/stat` cannot be read.
pub(crate) fn of_machine() -> Result<u64> {
    busy(&fs::read_to_string("/proc/stat")?).context("/proc/stat lists no processors")
}

/// The number of the machine's processors, including those that this process may not use.
///
/// # Errors
/// `/proc/stat` cannot be read.
pub(crate) fn processors() -> Result<u64> {
    Ok(lines(&fs::read_to_string("/proc/stat")?).count() as u64)
}

/// The mean over the lines `cpuN user nice system idle iowait irq softirq steal …` of everything but
/// idle and iowait; the file counts in ticks of ten milliseconds.
fn busy(stat: &str) -> Option<u64> {
    let mut sum = 0;
    for line in lines(stat) {
        let ticks = line.split_whitespace().skip(1).take(8).enumerate();
        for (_, ticks) in ticks.filter(|(place, _)| *place != 3 && *place != 4) {
            sum += ticks.parse::<u64>().ok()? * 10_000_000;
        }
    }
    sum.checked_div(lines(stat).count() as u64)
}

/// The lines of single processors; the line of their sum has a blank after `cpu`.
fn lines(stat: &str) -> impl Iterator<Item = &str> {
    stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_iowait_are_not_busy() {
        let stat = "cpu  9 9\ncpu0 1 2 3 400 500 6 7 8 9 9\ncpu1 1 2 3 4 5 6 7 10 9 9\nintr 1";
        assert_eq!(busy(stat), Some(28 * 10_000_000));
        assert_eq!(busy("intr 1"), None);
    }

    #[test]
    fn this_process_has_used_processor_time() {
        assert!(of_process(std::process::id()).expect("it runs") > 0);
    }
}
