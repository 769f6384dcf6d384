//! Waiting for the world to become as it should, with a deadline.

use std::time::{Duration, Instant};

/// Between two looks.
const PACE: Duration = Duration::from_millis(200);

/// Looks until `look` finds what it waits for and returns it with the time it took.
///
/// # Panics
/// After `limit`, with the reason that the last look gave.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> (T, Duration) {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(found) => return (found, begun.elapsed()),
            Err(why) if begun.elapsed() > limit => {
                panic!("{what}: not within {limit:?}; last seen: {why}")
            }
            Err(_) => std::thread::park_timeout(PACE),
        }
    }
}

/// Looks for as long as `time` and wants the same each time.
///
/// # Panics
/// As soon as a look fails.
pub fn always(what: &str, time: Duration, mut look: impl FnMut() -> Result<(), String>) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        if let Err(why) = look() {
            panic!("{what}: broken after {:?}: {why}", begun.elapsed());
        }
        std::thread::park_timeout(PACE);
    }
}
