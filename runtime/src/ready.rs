//! Readiness as a set of gates: ready when every gate is open and nothing closed it for good.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

/// Readiness of a process. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Ready {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Names of gates that are not open yet.
    waiting_for: BTreeSet<&'static str>,
    /// Why the process will not be ready again.
    closed: Option<&'static str>,
}

/// One thing to be done before the process is ready. Opens once, by [`Gate::open`]; a gate that
/// is dropped unopened stays shut, so that work that failed never makes a process ready.
#[derive(Debug)]
pub struct Gate {
    ready: Ready,
    name: &'static str,
}

impl Ready {
    /// Ready at once, until a gate is made.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the process wait for `name`, shown to who asks why it is not ready.
    #[must_use]
    pub fn gate(&self, name: &'static str) -> Gate {
        self.state.lock().waiting_for.insert(name);
        Gate { ready: self.clone(), name }
    }

    /// Turns readiness off for good, as a drain does.
    pub fn close(&self, why: &'static str) {
        self.state.lock().closed.get_or_insert(why);
    }

    /// True when every gate is open and nothing closed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let state = self.state.lock();
        state.closed.is_none() && state.waiting_for.is_empty()
    }

    /// What stands between the process and readiness; empty when ready.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<&'static str> {
        let state = self.state.lock();
        state.closed.into_iter().chain(state.waiting_for.iter().copied()).collect()
    }
}

impl Gate {
    /// The thing is done.
    pub fn open(self) {
        self.ready.state.lock().waiting_for.remove(self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_every_gate_is_open_and_never_after_a_close() {
        let ready = Ready::new();
        let (a, b) = (ready.gate("registered"), ready.gate("ring joined"));
        assert_eq!(ready.waiting_for(), ["registered", "ring joined"]);
        a.open();
        assert!(!ready.is_ready());
        b.open();
        assert!(ready.is_ready());
        ready.close("draining");
        assert_eq!(ready.waiting_for(), ["draining"]);
        assert!(!ready.is_ready());
    }

    #[test]
    fn a_dropped_gate_stays_shut() {
        let ready = Ready::new();
        drop(ready.gate("registered"));
        assert!(!ready.is_ready());
    }
}
