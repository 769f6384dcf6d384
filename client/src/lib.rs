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
//! **Life of a read.** The client asks the near cache, if it has one, then the key's owner, or any
//! member while the ring is unknown: every member answers for every key. An owner whose key is hot
//! asks in its answer to spread the next reads over all members. When a member fails, it
//! tries the next one at once. When all failed, it waits 1, 2 and 4 s by default, or until one of
//! them answers again. One deadline covers all of it. Tries that may have cost a member work are
//! repeated only within a budget: a tenth of the calls and ten per second.
//!
//! **Which runtime.** Any tokio runtime, also a current-thread one. The runtime in which a
//! connection was first used drives it; a program with one runtime per core builds one client in
//! each.
//!
//! **Never.** No task runs while no call is made. No value is copied, except into the near cache.
//! An answer that another try would not change is not retried. The client never calls the registry
//! or Kubernetes.
//!
//! Start at [`Client`]; `call.rs` has the rounds, `directory.rs` the members and the ring. Modules
//! import in one direction: `builder` and `batch` use `client`, which uses `call` and `near`;
//! `call` uses `budget` and `directory`, which uses `balance`, `member`, `ring` and `spread`; below are
//! `tls`, `network`,
//! `status` and `error`.

mod answer;
mod balance;
mod batch;
mod budget;
mod builder;
mod call;
mod client;
mod directory;
mod endpoint;
mod error;
mod key;
mod member;
mod near;
pub mod network;
mod request;
mod retry;
mod ring;
mod route;
mod settings;
mod spread;
mod status;
mod tls;
mod tls_error;

pub use answer::Answer;
pub use balance::Balance;
pub use builder::Builder;
pub use client::{Client, Invalidated, MemberAnswer, Stats};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{BuildError, Error, Failure, MemberError};
pub use key::Key;
/// The delays between the rounds of a [`Retry`], and why they are invalid.
pub use larder_backoff::{BackoffPolicy, Error as BackoffError};
pub use retry::Retry;
pub use ring::Ring;
pub use tls::Tls;

/// Messages that the calls return as they are on the wire.
pub use larder_proto::v1::{
    CurveResponse, Explanation, GroupStatus, HotKey, HotKeysResponse, PredictedPolicy,
    PredictedSize, RingMember, RingResponse, Source, StatusResponse,
};
