//! Certificates of a process: read from a folder, checked, and read again after they change.
//!
//! [`load`] reads PEM texts. [`Material`] is what they contain once they have been checked: a key
//! that belongs to its certificate, a certificate that is valid and signed by one of the
//! authorities. [`Certificates`] holds the material in force and replaces it as a whole, so a torn
//! or wrong pair is never used. [`ServerTls`] and [`ClientTls`] make rustls configurations of the
//! material in force.
//!
//! Never here: a socket, a task, a log line. The caller decides when to look for new files.
//!
//! Imports run one way: `config` uses `certificates`, which uses `material`, which uses `names` and
//! `files`; `error` is below all.

mod certificates;
mod config;
mod error;
mod files;
mod material;
mod names;
#[cfg(feature = "test-util")]
pub mod testing;

pub use certificates::{Certificates, Poll, Source};
pub use config::{ClientTls, ServerTls};
pub use error::{Error, Problem};
pub use files::{CA_FILE, CERTIFICATE_FILE, Identity, KEY_FILE, Pem, load};
pub use material::{Material, Usage};
pub use names::{NameCheck, uri_names};
