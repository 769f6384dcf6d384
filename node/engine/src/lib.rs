//! The bounded in-memory cache of one process.
//!
//! A [`Cache`] divides a capacity in bytes among named [`Group`]s. A group maps keys to values that
//! are present or *absent* ("the origin has no such key"), each with a limited life. Everything is
//! synchronous and time is an argument ([`Tick`]): nothing reads a clock, a file or a socket.
//!
//! ```
//! use larder_engine::{Cache, GroupOptions, NewEntry, Options, Tick, Value};
//!
//! let cache = Cache::new(Options { capacity_bytes: 8 << 20, ..Options::default() });
//! let students = cache.add_group("students", GroupOptions::default())?;
//! let now = Tick::from_millis(1_000);
//!
//! assert!(students.get(b"Tom", now).is_none());
//! let fence = students.begin_load();
//! let value = Value::Present("630".into()); // loaded from the origin
//! let entry = NewEntry::new(value, now.after_millis(60_000), now.after_millis(90_000), 1);
//! students.insert(b"Tom", &entry, Some(fence), now)?;
//!
//! let hit = students.get(b"Tom", now.after_millis(70_000)).expect("kept for 90 s");
//! assert!(hit.fresh_until < now.after_millis(70_000), "stale: serve it and reload");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The life of an entry
//! 1. A read misses. The caller takes a [`Fence`], loads, and inserts with the fence. Outside the
//!    lock, key and value are copied into one record (`record.rs`).
//! 2. Under the lock of the key's shard (`shard.rs`), the fence is checked, and the entry is added
//!    to a slot (`slab.rs`), the hash table, the timer wheel (`expiry.rs`) and the policy
//!    (`policy.rs`). The policy then selects victims until the shard is within its limit.
//! 3. Reads return views of the record until `keep_until`. The caller decides whether the value is
//!    still *fresh*.
//! 4. The entry is removed for one [`Cause`] and dropped after the lock is released. A reader that
//!    still holds a view keeps the record alive, but it is no longer charged.
//!
//! # Invariants
//! - The charged bytes are the sum of the weights of all entries and of the policy's own memory.
//!   Over all groups they are at most the capacity, except after a reduction of the capacity or a
//!   change of policy, until inserts and sweeps have caught up.
//! - A value past `keep_until` is never returned, whether or not a sweep has run.
//! - The result of a load is never stored if its key, tag or group was invalidated after its fence.
//! - No lock is held while an entry is dropped, and no two shards are locked at once.
//!
//! Where to start: [`Group::get`], then `shard.rs`, then `policy.rs`.

mod budget;
mod cache;
mod curve;
mod entry;
mod expiry;
mod fence;
mod graveyard;
mod group;
mod hot;
mod listener;
mod options;
mod policy;
mod queue;
mod record;
mod shard;
mod slab;
mod stats;
mod store;
mod sync;
mod tags;
mod tick;
mod xfetch;

pub use cache::{Cache, GroupExists};
pub use curve::{CURVE_PERCENTS, Curve, TooYoung};
pub use entry::{Hit, MAX_KEY_BYTES, NewEntry, Value, weight};
pub use fence::Fence;
pub use group::{Group, Place, Refused};
pub use hot::HotKey;
pub use listener::Listener;
pub use options::{GroupOptions, Options};
pub use policy::{PolicyKind, UnknownPolicy};
pub use shard::Cause;
pub use stats::{GroupStats, Swept};
pub use tags::Tags;
pub use tick::Tick;
pub use xfetch::reload_early;
