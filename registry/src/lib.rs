//! An in-memory implementation of the part of etcd's gRPC API that Larder's members use, for
//! `larder up` and for tests with injected faults.
//!
//! It implements KV, Lease and Watch with etcd's semantics, revisions and error texts, and the part
//! of Cluster and Maintenance that clients use to identify a server. It stores nothing on disk and
//! has no replicas and no users. The same transcripts run in tests against this crate and against a
//! real etcd.
//!
//! The state machine is pure (`state`, `store`, `lease`, `watch`); `grpc` exposes it to clients,
//! [`LocalRegistry`] calls it without a network, and [`Faults`] injects failures. Start at
//! [`EmbeddedRegistry::start`].

mod embedded;
mod error;
mod faults;
mod grpc;
mod lease;
mod local;
mod options;
mod shared;
mod state;
mod store;
mod watch;

pub use embedded::EmbeddedRegistry;
pub use faults::Faults;
pub use local::{Listed, LocalRegistry, LocalWatch, Revised, WatchEvent};
pub use options::RegistryOptions;
