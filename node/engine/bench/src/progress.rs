//! Says on standard error how far a run is, not more often than every two seconds. It never
//! touches standard output, where the results go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often it speaks.
const PAUSE: Duration = Duration::from_secs(2);

/// Counts steps, from any thread.
pub(crate) struct Progress {
    name: String,
    steps: usize,
    done: AtomicUsize,
    begin: Instant,
    spoke: Mutex<Instant>,
}

impl Progress {
    /// Of so many steps.
    pub(crate) fn new(name: impl Into<String>, steps: usize) -> Progress {
        let now = Instant::now();
        let done = AtomicUsize::new(0);
        Progress { name: name.into(), steps, done, begin: now, spoke: Mutex::new(now) }
    }

    /// One step is done.
    pub(crate) fn step(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let mut spoke = self.spoke.lock();
        if spoke.elapsed() >= PAUSE {
            *spoke = Instant::now();
            let (name, steps) = (&self.name, self.steps);
            eprintln!(
                "{name}: {done} of {steps} after {:.0} s",
                self.begin.elapsed().as_secs_f64()
            );
        }
    }
}
