//! The gRPC services of a node, and how a port routes to them.
//!
//! `port` routes the calls of one port. `cache` and `groupcache` serve applications from a
//! [`Backend`]: a member's cache (`member`) or a sidecar's client. `peer` serves other members,
//! `admin` tools. The services decode requests and encode answers; [`crate::cache`] makes the
//! decisions.

pub mod admin;
mod backend;
pub mod cache;
mod deadline;
pub mod groupcache;
mod member;
pub mod peer;
mod port;
mod response;
mod stream;

pub use crate::serve::CallerIdentity;
pub use backend::{Backend, ReadReply};
pub use deadline::call_deadline;
pub use port::{PortService, common_services};
