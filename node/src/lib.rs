//! A cache member: as a server, as a sidecar, or embedded in another program.
//!
//! # The life of a Get
//! 1. A service in [`grpc`] or [`http`] decodes the request, checks its form, and calls [`cache`].
//! 2. `cache` checks the key, finds the group, and asks the ring in [`peers`] which member owns the
//!    key.
//! 3. This member owns the key: the engine looks it up and [`freshness`] decides what the entry is
//!    worth. A fresh entry is the answer, without an await. An entry past its TTL may be answered
//!    while one reload runs.
//! 4. Another member owns the key: a fresh copy in the hot cache is the answer. Otherwise the
//!    request joins the key's *forward* flight, whose leader sends the key to the owner in a batch.
//!    A forwarded request is never forwarded again. An owner that does not answer is bypassed, and
//!    its stand-in answers or loads the key.
//! 5. There is no usable entry: the request joins the key's *load* flight ([`flight`]). The leader
//!    is a task of its own. It loads from the [`origin`] behind a guard, alone or in one call with
//!    other keys, and stores the result, unless an invalidation passed since the load started.
//! 6. Each request waits until its own deadline. [`status`] maps an error to what the caller sees.
//!
//! When the ring changes, `handover` takes over the entries of the keys that this member gains,
//! from the members that held them.
//!
//! [`membership`] publishes the members and groups of the cluster as a view. [`app`] passes the
//! members to `peers` and the groups to `cache`. Nothing on the read path asks the registry.
//!
//! # Imports
//! Imports run one way: `app` → `snapshot`, `grpc`, `http`, `handover` → `cache` → `freshness`,
//! `flight`, `peers`, `origin`. `metrics`, `config`, `gather` and `membership` import none of these.

pub mod app;
pub mod args;
pub mod cache;
pub mod config;
pub mod flight;
pub mod freshness;
pub mod gather;
pub mod grpc;
mod handover;
pub mod http;
pub mod membership;
pub mod metrics;
pub mod origin;
pub mod peers;
pub mod program;
mod serve;
pub mod sidecar;
mod snapshot;
pub mod status;
