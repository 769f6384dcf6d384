//! Monotonic time in milliseconds. Never wall-clock time: expiry must not move with it.

use tokio::time::Instant;

/// A monotonic clock that starts at zero. Cheap to copy; copies agree.
///
/// It reads tokio's clock, so a test that pauses tokio's time rules it.
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
        // 2^64 milliseconds are half a billion years.
        u64::try_from(self.origin.elapsed().as_millis()).expect("the process is younger than that")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn paused_time_rules_the_clock() {
        let clock = Clock::start();
        tokio::time::advance(Duration::from_millis(1500)).await;
        assert_eq!(clock.now_ms(), 1500);
        assert_eq!({ clock }.now_ms(), 1500);
    }
}
