//! The bounded in-memory cache of one process.
//!
//! A [`Cache`] divides a capacity in bytes among named [`Group`]s. A group maps keys to values
//! that are present or *absent* ("the origin has none"), each with a life. Everything here is
//! synchronous; time is an argument ([`Tick`]); nothing reads a clock, a file or a socket.
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
//! let value = Value::Present("630".into()); // the origin's answer
//! let entry = NewEntry::new(value, now.after_millis(60_000), now.after_millis(90_000), 1);
//! students.insert(b"Tom", &entry, Some(fence), now)?;
//!
//! let hit = students.get(b"Tom", now.after_millis(70_000)).expect("kept for 90 s");
//! assert!(hit.fresh_until < now.after_millis(70_000), "stale: answer it and reload");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The life of an entry
//! 1. A read misses. The caller takes a [`Fence`], loads, and inserts with the fence. Outside the
//!    lock key and value are copied into one record (`record.rs`).
//! 2. Under the lock of the key's shard (`shard.rs`) the fence is judged, the entry takes a slot
//!    (`slab.rs`), is entered in the hash table, the timer wheel (`expiry.rs`) and the policy
//!    (`policy.rs`), and the policy names victims until the shard is within its limit.
//! 3. Reads hand out views of its record until `keep_until`; whether it is still *fresh* is the
//!    caller's judgement.
//! 4. It leaves by one [`Cause`], and is dropped after the lock is released. A reader that still
//!    holds a view keeps the record alive, no longer charged.
//!
//! # Invariants
//! - The bytes charged are the sum of the weights of the entries, plus what the policy remembers
//!   beside them; over all groups they are at most the capacity, except after a cut of it or a
//!   change of policy, until inserts and sweeps have caught up.
//! - An answer past `keep_until` is never given, whether or not a sweep ran.
//! - A fill whose fence was passed by an invalidation of its key, tag or group is never stored.
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
pub use group::{Group, Refused};
pub use hot::HotKey;
pub use listener::Listener;
pub use options::{GroupOptions, Options};
pub use policy::{PolicyKind, UnknownPolicy};
pub use shard::Cause;
pub use stats::{GroupStats, Swept};
pub use tick::Tick;
pub use xfetch::reload_early;
