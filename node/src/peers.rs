//! The other members: which one owns a key, and one client for each.
//!
//! A [`RingView`] joins a ring with the peers that it names. It is replaced as a whole and read
//! without a lock. A peer that does not answer is bypassed: the ring names the next member for its
//! keys, so all members agree on the stand-in. Peers know nothing of the groups' contents, and only
//! `peers/channel.rs` opens a connection. Start at [`Peers`].
//!
//! Three decisions are pure. `state`: whether a peer answers. `log` and `exchange`: which
//! invalidations of one member another has applied; `past` extends that over a restart. `applied`:
//! whose entries may be stored here. `link` and `journal` are their shells, `batch` is the queue of
//! keys, `previous` the ring before the latest change.

mod applied;
mod batch;
mod channel;
mod context;
mod deps;
mod directory;
mod exchange;
mod journal;
mod link;
mod log;
mod past;
mod peer;
mod previous;
mod recorder;
mod remote;
mod ring;
mod stamp;
mod state;
mod tls;
mod transport;
mod wire;

pub(crate) use applied::Applied;
pub use batch::Unanswered;
pub(crate) use batch::{HOP_ALLOWANCE, before_hop};
pub use channel::Grpc;
pub(crate) use deps::PeerDeps;
pub use directory::Peers;
pub(crate) use journal::{Appended, Saved};
pub use log::Invalidation;
pub(crate) use log::LogImage;
pub(crate) use past::{Past, RestoreVerdict};
pub use peer::{Peer, Refusal};
pub(crate) use previous::{PreviousRing, Source};
pub(crate) use recorder::{LogEvent, Recorder, Ticket};
pub use ring::{Owner, RingView};
pub use tls::PeerTls;
pub use transport::{CallError, InvalidAddress, PeerConnection, Transport};
#[cfg(test)]
pub(crate) use wire::in_step;
pub(crate) use wire::{from_wire, to_wire};
