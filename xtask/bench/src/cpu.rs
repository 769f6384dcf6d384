//! Processor time, as the kernel accounts for it.
//!
//! Reads only; never samples and never estimates.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// Nanoseconds on a processor of all threads that a process has now.
///
/// # Errors
/// When there is no such process.
pub(crate) fn of_process(pid: u32) -> Result<u64> {
    let tasks = Path::new("/proc").join(pid.to_string()).join("task");
    let mut sum = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("read {}", tasks.display()))? {
        // A thread that ended in between has no file any more.
        if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
            sum += first_number(&text).unwrap_or(0);
        }
    }
    Ok(sum)
}

/// Nanoseconds that the machine's processors were busy, on average, to the hundredth of a second.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn of_machine() -> Result<u64> {
    busy(&fs::read_to_string("/proc/stat")?).context("/proc/stat has no lines of processors")
}

/// How many processors the machine has, whichever of them this process may use.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn processors() -> Result<u64> {
    Ok(lines(&fs::read_to_string("/proc/stat")?).count() as u64)
}

/// The mean over the lines `cpuN user nice system idle iowait irq softirq steal …` of everything but
/// idle and iowait, from ticks of a hundredth of a second.
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

/// The lines of single processors; the one of all together has a blank after `cpu`.
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
    fn idle_and_waiting_are_not_busy() {
        let stat = "cpu  9 9\ncpu0 1 2 3 400 500 6 7 8 9 9\ncpu1 1 2 3 4 5 6 7 10 9 9\nintr 1";
        assert_eq!(busy(stat), Some(28 * 10_000_000));
        assert_eq!(busy("intr 1"), None);
    }

    #[test]
    fn this_process_has_run() {
        assert!(of_process(std::process::id()).expect("it lives") > 0);
    }
}
