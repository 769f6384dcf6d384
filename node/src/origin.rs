//! Where values come from on a miss: a [`Loader`]. It is a trait, a plain function ([`from_fn`]),
//! or what a CacheGroup describes ([`build`]): `sql` or `http`. Members load through a [`Guard`].
//!
//! A loader distinguishes *absent* from an empty value and from an error. It does not cache, retry
//! or keep keys. It enforces its own time limit; the deadlines of callers are enforced elsewhere.
//! Nothing here writes a credential to a log or an error.

mod breaker;
mod bucket;
mod build;
mod bulkhead;
mod credentials;
mod error;
mod guard;
mod http;
mod loader;
mod queue;
mod sql;
mod tags;

pub use build::build;
pub use credentials::Credentials;
pub use error::{Blame, Error};
pub use guard::{Guard, Health};
pub use http::HttpLoader;
pub use loader::{FromFn, Loaded, Loader, from_fn};
pub use queue::Requester;
pub use sql::SqlLoader;
pub use tags::{TagError, check_tags};
