//! Monotonic time in milliseconds. Never wall-clock time: a clock adjustment must not change
//! expiry.

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
