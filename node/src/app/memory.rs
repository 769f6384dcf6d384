//! Follows the memory limit of the container, which may be resized in place: the capacity for
//! entries and the member's weight change with it, without a restart.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::cache::Cache;
use crate::config::MemberConfig;

/// Time between two readings of the limit.
const INTERVAL: Duration = Duration::from_secs(2);
/// Where a process finds the limit of its own container: cgroup v2, then v1.
const FILES: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// A larger number means that there is no limit: v1 writes the largest multiple of a page.
const UNLIMITED: u64 = 1 << 60;

/// Follows the limit for ever. `file` replaces that of the control group.
pub(super) async fn follow_limit(
    settings: MemberConfig,
    file: Option<PathBuf>,
    cache: Cache,
    weight: watch::Sender<u32>,
) {
    let files = file.map_or_else(|| FILES.map(PathBuf::from).into(), |file| vec![file]);
    let mut settings = settings;
    loop {
        if let Some(limit) = read(&files).filter(|limit| settings.memory_bytes != Some(*limit)) {
            settings = settings.resized(limit);
            let capacity_bytes = settings.main_bytes + settings.hot_bytes;
            tracing::info!(limit, capacity_bytes, "memory limit changed");
            cache.set_capacity(settings.main_bytes, settings.hot_bytes);
            weight.send_replace(settings.weight());
        }
        sleep(INTERVAL).await;
    }
}

/// The limit in the first file that exists; `None` without one. The files are in memory, so
/// reading them does not block.
fn read(files: &[PathBuf]) -> Option<u64> {
    let text = files.iter().find_map(|file| std::fs::read_to_string(file).ok())?;
    parse(&text)
}

fn parse(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bytes| *bytes < UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_that_a_machine_can_have() {
        assert_eq!(parse("536870912\n"), Some(512 << 20));
        for unlimited in ["max\n", "9223372036854771712\n", ""] {
            assert_eq!(parse(unlimited), None, "{unlimited:?}");
        }
        assert_eq!(read(&["/nowhere/memory.max".into()]), None);
    }
}
