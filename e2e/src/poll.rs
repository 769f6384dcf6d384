//! Polling with a deadline.

use std::time::{Duration, Instant};

/// Pause between two attempts.
const PACE: Duration = Duration::from_millis(200);

/// Calls `attempt` until it succeeds. Returns its result and how long that took.
///
/// # Panics
/// After `limit`, with the last attempt's error.
pub fn until<T>(
    what: &str,
    limit: Duration,
    attempt: impl FnMut() -> Result<T, String>,
) -> (T, Duration) {
    until_at(PACE, what, limit, attempt)
}

/// As [`until`], with a pause of `pace` between two attempts.
///
/// # Panics
/// As [`until`].
pub fn until_at<T>(
    pace: Duration,
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> (T, Duration) {
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(found) => return (found, begin.elapsed()),
            Err(why) if begin.elapsed() > limit => {
                panic!("{what}: not within {limit:?}; last error: {why}")
            }
            Err(_) => std::thread::park_timeout(pace),
        }
    }
}

/// Calls `check` for as long as `time`.
///
/// # Panics
/// When a check fails.
pub fn always(what: &str, time: Duration, mut check: impl FnMut() -> Result<(), String>) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        if let Err(why) = check() {
            panic!("{what}: no longer after {:?}: {why}", begin.elapsed());
        }
        std::thread::park_timeout(PACE);
    }
}
