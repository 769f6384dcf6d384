//! Readiness as a set of gates: ready when every gate is open, until closed by a drain.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

/// Readiness of a process. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Ready {
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Names of the gates that are not open yet.
    waiting_for: BTreeSet<&'static str>,
    /// Why the process will never become ready again.
    closed: Option<&'static str>,
}

/// A condition for readiness, met by [`Gate::open`]. A gate that is dropped unopened stays shut, so
/// failed work never makes a process ready.
#[derive(Debug)]
pub struct Gate {
    ready: Ready,
    name: &'static str,
}

impl Ready {
    /// Starts ready, without gates.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a gate. `/readyz` lists `name` until the gate opens.
    #[must_use]
    pub fn gate(&self, name: &'static str) -> Gate {
        self.state.send_modify(|state| _ = state.waiting_for.insert(name));
        Gate { ready: self.clone(), name }
    }

    /// Turns readiness off permanently, as a drain does. The first reason is kept.
    pub fn close(&self, reason: &'static str) {
        self.state.send_modify(|state| _ = state.closed.get_or_insert(reason));
    }

    /// True if every gate is open and [`Ready::close`] was not called.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state.borrow().is_ready()
    }

    /// Waits until every gate is open, or returns false once [`Ready::close`] was called.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn opened(&self) -> bool {
        self.wait_for(|state| state.is_ready() || state.closed.is_some()).await;
        self.is_ready()
    }

    /// Waits until [`Ready::close`] was called.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn closed(&self) {
        self.wait_for(|state| state.closed.is_some()).await;
    }

    async fn wait_for(&self, holds: impl FnMut(&State) -> bool) {
        let mut states = self.state.subscribe();
        let waited = states.wait_for(holds).await;
        assert!(waited.is_ok(), "`self` holds the sender");
    }

    /// Why the process is not ready; empty if it is.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<&'static str> {
        let state = self.state.borrow();
        state.closed.into_iter().chain(state.waiting_for.iter().copied()).collect()
    }
}

impl State {
    fn is_ready(&self) -> bool {
        self.closed.is_none() && self.waiting_for.is_empty()
    }
}

impl Gate {
    /// Marks the condition as met.
    pub fn open(self) {
        self.ready.state.send_modify(|state| _ = state.waiting_for.remove(self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_gate_is_open_and_never_after_close() {
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

    #[tokio::test(start_paused = true)]
    async fn a_change_of_readiness_can_be_awaited() {
        let ready = Ready::new();
        let gate = ready.gate("registered");
        let (opened, ()) = tokio::join!(ready.opened(), async { gate.open() });
        assert!(opened);
        let ((), ()) = tokio::join!(ready.closed(), async { ready.close("draining") });
        assert!(!ready.opened().await, "it never opens again");
    }

    #[test]
    fn a_dropped_gate_stays_shut() {
        let ready = Ready::new();
        drop(ready.gate("registered"));
        assert!(!ready.is_ready());
    }
}
