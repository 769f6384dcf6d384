//! The members and groups of the cluster as this member knows them: a [`MembershipView`].
//!
//! `view = apply(view, event)` is pure and ordered by the registry's revision (`view.rs`).
//! `registration` maintains this member's key, `watch` follows everyone's keys, `registry` is the
//! part of etcd that both need, and `etcd` is the only file that imports etcd's client. [`start`]
//! joins them. Membership publishes views and calls no other module.
//!
//! A lease is a hint; the data plane decides. A member whose key vanished without deregistering
//! stays in the view as *departed*: for [`Rules::silence_ms`] without a sign of life, up to
//! [`Rules::grace_ms`] while peers report that it answers, and no longer once they report that it
//! does not. When more than a quarter of the members vanish in one window, the registry itself is
//! distrusted and the ring is kept. A silent or unreachable registry changes nothing.

mod board;
mod context;
mod etcd;
mod registration;
mod registry;
mod service;
mod view;
mod visibility;
mod watch;

pub use board::Reporter;
pub use etcd::Etcd;
pub use registry::{
    Error, Feed, KeyChange, Listing, NO_LEASE, RegistryClient, Session, StoredValue, WatchMessage,
};
pub use service::{Membership, MembershipOptions, start, start_with};
pub use view::{Counts, Departed, Entry, Event, LEAVING, MembershipView, Read, Rules, apply};
pub use visibility::Visibility;
