//! Progress on standard error, at most every two seconds. Results go to standard output.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Minimum interval between two lines.
const PAUSE: Duration = Duration::from_secs(2);

/// Counts steps of any threads.
pub(crate) struct Progress {
    name: String,
    steps: usize,
    done: AtomicUsize,
    begin: Instant,
    printed: Mutex<Instant>,
}

impl Progress {
    /// Starts a run of `steps` steps.
    pub(crate) fn new(name: impl Into<String>, steps: usize) -> Progress {
        let now = Instant::now();
        let done = AtomicUsize::new(0);
        Progress { name: name.into(), steps, done, begin: now, printed: Mutex::new(now) }
    }

    /// Counts a finished step.
    pub(crate) fn step(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let mut printed = self.printed.lock();
        if printed.elapsed() >= PAUSE {
            *printed = Instant::now();
            let (name, steps) = (&self.name, self.steps);
            eprintln!(
                "{name}: {done} of {steps} after {:.0} s",
                self.begin.elapsed().as_secs_f64()
            );
        }
    }
}
