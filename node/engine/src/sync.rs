//! Owns where the engine's locks and atomics come from. It never wraps them.
//!
//! `node/engine/interleave` compiles these same sources with the locks and atomics of shuttle, a
//! scheduler that chooses who runs next at each of them, and tries many orders. What bypasses this
//! module is not tried: a test there reads the sources for it.

pub(crate) use parking_lot::{Mutex, RwLock};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::atomic;
#[cfg(not(shuttle))]
pub(crate) use std::sync::atomic;
