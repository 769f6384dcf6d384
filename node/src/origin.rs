//! Where values come from on a miss: a [`Loader`]. It is a trait, a plain function ([`from_fn`]),
//! or what a CacheGroup describes ([`build`]): `sql` or `http`. Members load through a [`Guard`].
//!
//! A loader that can load several keys with one call has a [`BatchLoader`], and the guard collects
//! the keys of loads that start at nearly the same time.
//!
//! A loader distinguishes *absent* from an empty value and from an error. It does not cache, retry
//! or keep keys. It enforces its own time limit; the deadlines of callers are enforced elsewhere.
//! Nothing here writes a credential to a log or an error.

mod batch;
mod breaker;
mod bucket;
mod build;
mod bulkhead;
mod credentials;
mod error;
mod guard;
mod http;
mod keyed;
mod loader;
mod queue;
mod sql;
mod tags;
mod targets;

pub use build::{LoaderDeps, build};
pub use credentials::Credentials;
pub use error::{Blame, Error};
pub use guard::{Guard, Health};
pub use http::HttpLoader;
pub use loader::{BatchLoader, BatchedLoad, FromFn, Loaded, Loader, from_fn};
pub use queue::Requester;
pub use sql::SqlLoader;
pub use tags::{TagError, check_tags};
pub use targets::Targets;
