//! Process scaffolding that knows no domain: time, randomness, tasks, probes, drain, logs, sockets,
//! certificates.
//!
//! The product accesses clock, randomness, spawning and sockets only through this crate, so a
//! deterministic simulation (`lab/`) can replace them.

pub mod admin;
pub mod clock;
pub mod drain;
pub mod exit;
pub mod log;
pub mod net;
#[cfg(feature = "test-util")]
pub mod process;
pub mod random;
pub mod ready;
pub mod tasks;
pub mod throttle;

pub use larder_tls as tls;
