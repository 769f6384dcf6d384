//! A cache member: as a server, as a sidecar, or embedded in another program.
//!
//! # The life of a Get
//! 1. A door takes it: [`grpc`] or [`http`] decodes, checks nothing but the form, and asks the
//!    facade, [`cache`].
//! 2. `cache` judges the key, finds the group and asks the ring ([`peers`]) who owns the key.
//! 3. Owner here: the engine is asked. [`freshness`] says what the entry is worth: a fresh one is
//!    the answer, without an await; one past its life may be answered while one reload runs.
//! 4. Owner elsewhere: a fresh copy in the hot cache is the answer. Else the key joins its
//!    *forward* flight, whose leader asks the owner in a batch, once: a forwarded request is never
//!    forwarded again. An owner that does not answer is by-passed, and the key loaded here.
//! 5. Nothing here: the key joins its *load* flight ([`flight`]). The leader, a task of its own,
//!    asks the [`origin`] behind its bulkhead and stores the result, unless an invalidation passed
//!    since it began.
//! 6. Each waiter keeps its own deadline. `grpc/status.rs` words what went wrong.
//!
//! [`membership`] publishes what the registry says as a View; [`app`] hands it to `peers` (members)
//! and `cache` (groups). Nothing on the read path asks the registry.

pub mod app;
pub mod args;
pub mod cache;
pub mod config;
pub mod flight;
pub mod freshness;
pub mod grpc;
pub mod http;
pub mod membership;
pub mod metrics;
pub mod origin;
pub mod peers;
pub mod program;
mod serve;
pub mod sidecar;
