//! Lets one test run alone, or any number together. Tests that run alone go first, so that each of
//! them waits for the others of its kind and never for the long tests of the other kind.

use parking_lot::{Condvar, Mutex};

/// Who waits and who runs.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    waiting_alone: usize,
    running_alone: bool,
    running_together: usize,
}

/// A test that is to run alone and is still preparing.
#[derive(Debug)]
pub(crate) struct Announced(&'static Gate);

/// Keeps the gate until it is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: &'static Gate,
    alone: bool,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        let state = State { waiting_alone: 0, running_alone: false, running_together: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Keeps tests from running together until this one has run alone.
    pub(crate) fn announce(&'static self) -> Announced {
        self.state.lock().waiting_alone += 1;
        Announced(self)
    }

    /// Waits until no test runs alone or waits to.
    pub(crate) fn together(&'static self) -> Pass {
        let mut state = self.state.lock();
        self.changed.wait_while(&mut state, |state| state.running_alone || state.waiting_alone > 0);
        state.running_together += 1;
        Pass { gate: self, alone: false }
    }
}

impl Announced {
    /// Waits until no other test runs.
    pub(crate) fn enter(self) -> Pass {
        let mut state = self.0.state.lock();
        self.0
            .changed
            .wait_while(&mut state, |state| state.running_alone || state.running_together > 0);
        state.running_alone = true;
        Pass { gate: self.0, alone: true }
    }
}

impl Drop for Announced {
    /// It has entered, or its preparation has failed.
    fn drop(&mut self) {
        self.0.state.lock().waiting_alone -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        if self.alone {
            state.running_alone = false;
        } else {
            state.running_together -= 1;
        }
        self.gate.changed.notify_all();
    }
}
