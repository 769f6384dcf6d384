//! One member as this client sees it: an address, a connection, and whether the last try reached
//! it.
//!
//! A task of its own opens the connection, at most one at a time, so that all callers that need it
//! get the result at the same moment, and a dropped caller does not stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::Failure;
use crate::network::{self, GrpcChannel, Network};

pub(crate) struct Member {
    address: String,
    link: Mutex<Link>,
    /// Whether `link` is [`Link::Open`], readable without the lock. Written under the lock.
    is_open: AtomicBool,
    /// Whether the last try did not reach the member.
    is_down: AtomicBool,
    /// Calls that wait for an answer.
    in_flight: AtomicUsize,
    /// The last probe of a member that left a call without an answer.
    pub(crate) check: Mutex<Option<Check>>,
}

/// Counts a call to a member until it is dropped.
pub(crate) struct InFlight<'m>(&'m AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether the member answered a probe; `None` while it runs.
pub(crate) type Check = watch::Receiver<Option<bool>>;

/// The result of a connection attempt; `None` while it runs. The sender is dropped with the
/// attempt's runtime.
type Attempt = watch::Receiver<Option<Result<GrpcChannel, Failure>>>;

enum Link {
    Closed,
    Opening(Attempt),
    /// The last connection. It may have ended already: the next call finds out.
    Open(GrpcChannel),
}

/// In which order a call tries members, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Availability {
    /// Takes a request now.
    Connected,
    /// Not known to be down, but a request has to wait for a connection.
    Unconnected,
    /// The last try did not reach it.
    Down,
}

impl Member {
    pub(crate) fn new(address: String) -> Self {
        Self {
            address,
            link: Mutex::new(Link::Closed),
            is_open: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            check: Mutex::new(None),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Counts a call until the guard is dropped.
    pub(crate) fn begin_call(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(&self.in_flight)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn availability(&self) -> Availability {
        if self.is_down() {
            Availability::Down
        } else if self.is_open.load(Ordering::Relaxed) {
            Availability::Connected
        } else {
            Availability::Unconnected
        }
    }

    /// Records whether a try reached the member; returns whether that changed.
    pub(crate) fn set_down(&self, down: bool) -> bool {
        // Read first: most calls change nothing, and a read does not contend for the cache line.
        self.is_down() != down && self.is_down.swap(down, Ordering::Relaxed) != down
    }

    /// Opens a connection in the background, unless there is one. Needs a tokio runtime.
    pub(crate) fn connect(self: &Arc<Self>, network: &Arc<dyn Network>) {
        _ = self.open(network);
    }

    /// The channel of the open connection, or of the one that is being opened.
    ///
    /// # Errors
    /// The connection cannot be made; the next call starts a new attempt.
    ///
    /// # Cancel safety
    /// Safe: the attempt continues for other callers.
    pub(crate) async fn channel(
        self: &Arc<Self>,
        network: &Arc<dyn Network>,
    ) -> Result<GrpcChannel, Failure> {
        let mut attempt = match self.open(network) {
            Ok(channel) => return Ok(channel),
            Err(attempt) => attempt,
        };
        match attempt.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().expect("waited for"),
            Err(_) => {
                let message = "the runtime of the connection ended".into();
                Err(Failure::Connection { address: self.address.clone(), message })
            }
        }
    }

    /// Closes the connection: a call found that it has ended.
    pub(crate) fn disconnect(&self) {
        let mut link = self.link.lock();
        if matches!(*link, Link::Open(_)) {
            self.set(&mut link, Link::Closed);
        }
    }

    fn open(self: &Arc<Self>, network: &Arc<dyn Network>) -> Result<GrpcChannel, Attempt> {
        let mut link = self.link.lock();
        match &*link {
            Link::Open(channel) => return Ok(channel.clone()),
            // An error means that the attempt's runtime ended before the attempt did.
            Link::Opening(attempt) if attempt.has_changed().is_ok() => return Err(attempt.clone()),
            Link::Opening(_) | Link::Closed => {}
        }
        let attempt = self.spawn_attempt(network);
        self.set(&mut link, Link::Opening(attempt.clone()));
        Err(attempt)
    }

    fn spawn_attempt(self: &Arc<Self>, network: &Arc<dyn Network>) -> Attempt {
        let (sender, attempt) = watch::channel(None);
        let (member, network) = (Arc::clone(self), Arc::clone(network));
        tokio::spawn(async move {
            let opened = network::channel(&*network, &member.address).await;
            let link = match &opened {
                Ok(channel) => Link::Open(channel.clone()),
                Err(_) => Link::Closed,
            };
            member.set(&mut member.link.lock(), link);
            sender.send_replace(Some(opened));
        });
        attempt
    }

    /// `link` is this member's, locked by the caller.
    fn set(&self, link: &mut Link, new: Link) {
        self.is_open.store(matches!(new, Link::Open(_)), Ordering::Relaxed);
        *link = new;
    }
}
