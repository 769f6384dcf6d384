//! Limits how often one kind of log line is written, where a fault repeats with every try.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Admits one line per interval and counts the others.
#[derive(Debug)]
pub struct Throttle {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    admitted: Option<Instant>,
    left_out: u64,
}

impl Throttle {
    /// Admits one line per `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, state: Mutex::default() }
    }

    /// If a line may be written now, the number of lines that were left out since the last one.
    pub fn admit(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock();
        if state.admitted.is_some_and(|at| now.duration_since(at) < self.interval) {
            state.left_out += 1;
            return None;
        }
        state.admitted = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_per_interval_counts_those_before_it() {
        let throttle = Throttle::new(Duration::from_secs(60));
        assert_eq!(throttle.admit(), Some(0));
        assert_eq!(throttle.admit(), None);
        assert_eq!(throttle.admit(), None);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(throttle.admit(), Some(2));
        assert_eq!(throttle.admit(), None);
    }
}
