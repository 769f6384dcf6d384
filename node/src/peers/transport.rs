//! How a member's calls reach another member. gRPC implements it in `channel.rs`; a simulation
//! provides its own.

use std::sync::Arc;

use futures::future::BoxFuture;
use larder_proto::v1::{
    FetchRequest, FetchResponse, SyncRequest, SyncResponse, TakeOverRequest, TakeOverResponse,
};
use tonic::Status;

/// Opens connections to other members.
pub trait Transport: Send + Sync {
    /// A connection to `address` (`host:port`), which may be established on first use. Called on
    /// the peers' runtime.
    ///
    /// # Errors
    /// `address` is invalid.
    fn open(&self, address: &str) -> Result<Arc<dyn PeerConnection>, InvalidAddress>;
}

/// A connection to one member. It reconnects by itself after a failure; the caller limits the time
/// of each call.
///
/// # Cancel safety
/// A call may be dropped at any time. The peer may have received it.
pub trait PeerConnection: Send + Sync {
    /// Calls `larder.v1.Peer/Fetch`.
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, CallError>>;

    /// Calls `larder.v1.Peer/Sync`.
    fn sync(&self, request: SyncRequest) -> BoxFuture<'_, Result<SyncResponse, CallError>>;

    /// Calls `larder.v1.Peer/TakeOver`.
    fn take_over(
        &self,
        request: TakeOverRequest,
    ) -> BoxFuture<'_, Result<TakeOverResponse, CallError>>;
}

/// A peer's address cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidAddress(pub String);

/// Why a call brought no response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The connection was refused or broke: nothing serves the address, or it closed the
    /// connection.
    #[error("the connection failed: {0}")]
    Broken(String),
    /// The call took longer than its time limit.
    #[error("no response in time")]
    TimedOut,
    /// The peer, or a proxy in front of it, answered with an error.
    #[error("the peer answered with {}: {}", .0.code(), .0.message())]
    Status(Status),
}
