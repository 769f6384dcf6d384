//! Composition: builds every part of a node, starts them, and stops them in order.
//!
//! The drain order is readiness off, lease revoked, new work refused, requests in flight finished
//! within the grace time, stop. Several nodes may live in one process: nothing here is global, and
//! nothing ends the process.
//!
//! A program that embeds a member provides its loaders as functions:
//! ```
//! use larder_node::app::{App, Options};
//! use larder_node::config::Config;
//! use larder_node::origin::{self, Loaded};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let greet = origin::from_fn(|key| async move {
//!     Ok(Loaded::Value([b"hello, ", &key[..]].concat().into()))
//! });
//! let options = Options::default().group("greetings", greet);
//! let member = App::build(Config::alone("demo", 64 << 20), options)?.spawn()?;
//!
//! let answer = member.cache().expect("a member").read("greetings", b"Tom").await?;
//! assert_eq!(answer.present().expect("present"), "hello, Tom");
//! member.drain().await;
//! # Ok(())
//! # }
//! ```

mod background;
mod build;
mod follow;
mod member;
mod memory;
mod node;
mod options;
mod running;
mod sidecar;
mod tls;

pub use build::App;
pub use member::PortlessMember;
pub use node::Addresses;
pub use options::Options;
pub use running::Running;
