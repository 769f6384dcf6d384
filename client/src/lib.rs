//! The Rust client of a Larder cluster.
//!
//! ```no_run
//! use std::time::Duration;
//! use larder_client::{Answer, Client};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::builder()
//!     .dns("shop-members.prod.svc:7600")
//!     .near_cache(16 * 1024 * 1024, Duration::from_secs(1))
//!     .build()?;
//! match client.get("students", "Tom").await? {
//!     Answer::Found { value, stale, .. } => println!("{value:?}, stale: {stale}"),
//!     Answer::Absent { .. } => println!("the origin has no such key"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! **Life of a read.** The near cache, if there is one. Then the key's owner, if the ring is
//! known, or any member: every member answers for every key. A member that fails is followed by
//! the next one at once; when all failed, the call waits (1, 2, 4 s by default) or until any one
//! of them answers again. One deadline rules it all.
//!
//! **Which runtime.** Any tokio runtime, current-thread ones included. A connection is driven by
//! the runtime in which it was first used; a program with one runtime per core makes one client
//! in each.
//!
//! **What never happens here.** No task runs while no call is made. No value is copied, but into
//! the near cache. No retry after an answer that another try would not change. The client never
//! talks to the registry or to Kubernetes.
//!
//! Start at [`Client`]; `call.rs` has the rounds, `directory.rs` the members and the ring.

mod answer;
mod batch;
mod builder;
mod call;
mod client;
mod directory;
mod error;
mod key;
mod member;
mod near;
pub mod network;
mod retry;
mod ring;
mod route;
mod seed;

pub use answer::Answer;
pub use builder::Builder;
pub use client::{Client, Invalidated, Stats, Told};
pub use error::{BuildError, Error, Failure};
pub use key::Key;
/// The delays between the rounds of a [`Retry`], and why a set of them is refused.
pub use larder_backoff::{BackoffPolicy, Error as BackoffError};
pub use retry::Retry;
pub use ring::Ring;

/// Where an answer came from, and the ring and state of members, as they travel.
pub use larder_proto::v1::{
    CurveResponse, Explanation, GroupStatus, HotKey, HotKeysResponse, PredictedPolicy,
    PredictedSize, RingMember, RingResponse, Source, StatusResponse,
};
