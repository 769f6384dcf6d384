//! What any of our processes needs, without a domain: time, randomness, tasks, probes, drain,
//! logs, sockets, certificates.
//!
//! Clock, randomness, spawning and the network come into the product through here, so that a
//! deterministic simulation can later put its own in their place.

pub mod admin;
pub mod clock;
pub mod drain;
pub mod exit;
pub mod log;
pub mod net;
pub mod random;
pub mod ready;
pub mod tasks;
pub mod tls;
