//! The time between two processes. On one machine the clock since boot shows it exactly. After a
//! restart of the machine, or on another one, only the wall clock is left.

use std::time::SystemTime;

use larder_proto::v1::TimeOfWriting;

/// `/proc/uptime` counts hundredths of a second: both ends of a time may be rounded.
const ROUNDING_MS: u64 = 20;

/// The time now.
pub(super) fn now() -> TimeOfWriting {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let since_boot_ms = parse_uptime(&uptime);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    TimeOfWriting {
        // Both or none: a system without these files counts as one that was restarted.
        boot_id: since_boot_ms.map(|_| boot_id.trim().to_owned()).unwrap_or_default(),
        since_boot_ms: since_boot_ms.unwrap_or_default(),
        unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
    }
}

pub(super) fn is_same_boot(a: &str, b: &str) -> bool {
    !a.is_empty() && a == b
}

/// At least the time from `earlier` to `later`, ms; `None` if the clock went backwards.
pub(super) fn between(earlier: &TimeOfWriting, later: &TimeOfWriting) -> Option<u64> {
    let elapsed = if is_same_boot(&earlier.boot_id, &later.boot_id) {
        later.since_boot_ms.checked_sub(earlier.since_boot_ms)
    } else {
        later.unix_ms.checked_sub(earlier.unix_ms)
    };
    elapsed.map(|ms| ms.saturating_add(ROUNDING_MS))
}

/// `23442.57 5756.73`: seconds since boot, and idle ones.
fn parse_uptime(text: &str) -> Option<u64> {
    let (seconds, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let (seconds, hundredths) = (seconds.parse::<u64>().ok()?, hundredths.parse::<u64>().ok()?);
    Some(seconds.checked_mul(1_000)? + hundredths.min(99) * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot_id: &str, since_boot_ms: u64, unix_ms: u64) -> TimeOfWriting {
        TimeOfWriting { boot_id: boot_id.into(), since_boot_ms, unix_ms }
    }

    #[test]
    fn on_one_boot_a_changed_wall_clock_changes_nothing() {
        for unix_ms in [0, 50_000, u64::MAX] {
            let elapsed = between(&at("a", 1_000, 90_000), &at("a", 4_000, unix_ms));
            assert_eq!(elapsed, Some(3_000 + ROUNDING_MS));
        }
    }

    #[test]
    fn after_a_boot_the_wall_clock_counts_unless_it_went_backwards() {
        let before = at("a", 70_000, 10_000);
        assert_eq!(between(&before, &at("b", 5, 12_000)), Some(2_000 + ROUNDING_MS));
        assert_eq!(between(&before, &at("b", 5, 9_999)), None);
        assert_eq!(between(&at("", 0, 10_000), &at("", 0, 11_000)), Some(1_000 + ROUNDING_MS));
    }

    #[test]
    fn the_systems_uptime_is_read() {
        assert_eq!(parse_uptime("23442.57 5756.73\n"), Some(23_442_570));
        assert_eq!(parse_uptime(""), None);
        let (first, second) = (now(), now());
        assert!(between(&first, &second).is_some_and(|ms| ms < 60_000));
    }
}
