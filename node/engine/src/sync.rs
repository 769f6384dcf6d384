//! The source of the engine's locks and atomics.
//!
//! `node/engine/interleave` compiles the same sources with the locks and atomics of shuttle, a
//! scheduler that selects the next thread at each operation and tries many schedules. Code that
//! bypasses this module is not covered; a test there searches the sources for it.

pub(crate) use parking_lot::{Mutex, RwLock};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic;
#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic;
