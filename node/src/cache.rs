//! The read path: look up, find the owner, join a flight, ask the peer or the origin.
//!
//! This module decides the order of these steps and nothing else: [`freshness`](crate::freshness)
//! decides what an entry is worth, the ring which member owns a key, and [`peers`](crate::peers)
//! how an owner is reached. Start at [`Cache::get`], which decides a hit without an await.
//!
//! # Invariant
//! A request from a peer ([`Caller::Peer`]) is answered, loaded or refused here, never forwarded
//! again; `forward.rs` asserts it. A load never waits for a forward, so two members whose rings
//! disagree cannot wait for each other.
//!
//! # Files
//! `read` is the entry, `owned` reads keys that belong here and `forward` those that do not; both
//! use `load`, the only caller of an origin. `shared` is the state that they share, `groups` and
//! `group` the table of groups, `wait` the bounded wait for a flight, `failed_keys` the memory of
//! failed loads, `spread` the keys that all members should answer, `version` the numbers of loads. `portable` converts entries from and for other
//! processes, which `hand_over` gives to members, `take_over` takes from them, and `contents` lists
//! for a snapshot.

mod answer;
mod contents;
mod error;
mod failed_keys;
mod forward;
mod group;
mod groups;
mod hand_over;
mod invalidate;
mod load;
mod offers;
mod owned;
mod portable;
mod read;
mod shared;
mod spread;
mod stats;
mod take_over;
mod version;
mod wait;
mod waiting;

pub use answer::Answer;
pub(crate) use contents::GroupContents;
pub use error::{Awaited, Error};
pub use group::{GroupPlan, OriginSource};
pub use invalidate::{Invalidated, Scope};
pub(crate) use offers::Role;
pub(crate) use portable::{Import, signed};
pub use shared::Cache;
pub(crate) use shared::CacheDeps;
pub use stats::GroupReport;
pub(crate) use take_over::{BEHIND_PAUSE, NotTaken};
pub use wait::{Caller, Lookup, Wait};

#[cfg(test)]
mod tests;
