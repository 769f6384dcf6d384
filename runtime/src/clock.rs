//! Monotonic time in milliseconds. Never wall-clock time: a clock adjustment must not change
//! expiry.

use std::time::SystemTime;

use tokio::time::Instant;

/// A monotonic clock that starts at zero. Copies are cheap and show the same time.
///
/// It reads tokio's clock, so a test that pauses tokio's time controls it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that reads 0 now.
    #[must_use]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Milliseconds since the start.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        // 2^64 milliseconds are more than half a billion years.
        u64::try_from(self.origin.elapsed().as_millis()).expect("uptime fits in 64 bits")
    }
}

/// The system's clock as Unix time in microseconds. It may be wrong, and may jump.
#[must_use]
pub fn unix_time_us() -> u64 {
    #[cfg(feature = "test-util")]
    if let Some(us) = simulated::UNIX_TIME_US.get() {
        return us;
    }
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

/// Runs `work` with a system clock that shows `us` on this thread.
#[cfg(feature = "test-util")]
pub fn with_unix_time_us<T>(us: u64, work: impl FnOnce() -> T) -> T {
    let before = simulated::UNIX_TIME_US.replace(Some(us));
    let result = work();
    simulated::UNIX_TIME_US.set(before);
    result
}

#[cfg(feature = "test-util")]
mod simulated {
    use std::cell::Cell;

    thread_local! {
        pub(super) static UNIX_TIME_US: Cell<Option<u64>> = const { Cell::new(None) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_clock_follows_paused_time() {
        let clock = Clock::start();
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(clock.now_ms(), 1500);
        assert_eq!({ clock }.now_ms(), 1500);
    }
}
