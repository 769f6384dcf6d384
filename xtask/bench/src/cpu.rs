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

/// Nanoseconds that all processors of the machine were busy, to the hundredth of a second.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn of_machine() -> Result<u64> {
    busy(&fs::read_to_string("/proc/stat")?).context("/proc/stat has no line of all processors")
}

/// Of `cpu user nice system idle iowait irq softirq steal …`, everything but idle and iowait, from
/// ticks of a hundredth of a second.
fn busy(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks = line.split_whitespace().take(8).enumerate();
    let busy = ticks.filter(|(place, _)| *place != 3 && *place != 4);
    busy.map(|(_, ticks)| ticks.parse::<u64>().ok())
        .sum::<Option<u64>>()
        .map(|sum| sum * 10_000_000)
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let stat = "cpu  1 2 3 400 500 6 7 8 9 9\ncpu0 1 1 1 1\n";
        assert_eq!(busy(stat), Some(27 * 10_000_000));
        assert_eq!(busy("intr 1"), None);
    }

    #[test]
    fn this_process_has_run() {
        assert!(of_process(std::process::id()).expect("it lives") > 0);
    }
}
