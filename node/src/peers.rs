//! The other members: which one owns a key, and one client for each.
//!
//! A [`RingView`] joins a ring with the peers that it names. It is replaced as a whole and read
//! without a lock. A peer that does not answer is bypassed: the ring names the next member for its
//! keys, so all members agree on the stand-in. Peers know nothing of the groups' contents, and only
//! `peers/channel.rs` opens a connection. Start at [`Peers`].

mod batch;
mod channel;
mod context;
mod directory;
mod health;
mod link;
mod peer;
mod ring;
mod transport;

pub use batch::Unanswered;
pub use channel::Grpc;
pub(crate) use context::PeerContext;
pub use directory::Peers;
pub use peer::{Peer, Refusal};
pub use ring::{Owner, RingView};
pub use transport::{CallError, InvalidAddress, PeerConnection, Transport};
