//! What happened in a world, in order: hashed always, and kept as text on request.

use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The events of one world.
pub(crate) struct Timeline {
    began: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    /// With fixed keys, so that equal runs have equal hashes.
    hasher: DefaultHasher,
    events: u64,
    lines: Option<Vec<String>>,
}

impl Timeline {
    /// Starts now. `keep` keeps the text of each event.
    pub(crate) fn start(keep: bool) -> Self {
        let inner = Inner { hasher: DefaultHasher::new(), events: 0, lines: keep.then(Vec::new) };
        Self { began: Instant::now(), inner: Mutex::new(inner) }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).expect("a short run")
    }

    /// Records an event. `text` is called only if it is kept.
    pub(crate) fn add<T: Hash>(&self, event: &T, text: impl FnOnce() -> String) {
        let now_ms = self.now_ms();
        let mut inner = self.inner.lock();
        inner.events += 1;
        (now_ms, event).hash(&mut inner.hasher);
        if let Some(lines) = &mut inner.lines {
            lines.push(format!("{:>8.3} s  {}", as_seconds(now_ms), text()));
        }
    }

    /// Hash and number of the events so far.
    pub(crate) fn hash(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.hasher.finish(), inner.events)
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.inner.lock().lines.clone().unwrap_or_default()
    }
}

fn as_seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}
