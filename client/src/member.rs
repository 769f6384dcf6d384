//! One member as this client sees it: an address, a connection, and whether it was reached lately.
//!
//! A connection is made by a task of its own and at most one at a time, so that whoever needs it
//! hears its outcome at the same moment, and a caller that goes away stops nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::error::{self, Failure};
use crate::network::{self, Network};

pub(crate) struct Member {
    address: String,
    link: Mutex<Link>,
    /// The last try did not reach it. Such members are asked last.
    down: AtomicBool,
}

/// How a connection attempt ended; nothing while it runs. Its sender is gone when its runtime is.
type Attempt = watch::Receiver<Option<Result<Channel, Failure>>>;

enum Link {
    Closed,
    Opening(Attempt),
    /// The last connection that was made. A call finds out that it has ended.
    Open(Channel),
}

/// Whom to ask first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Takes a request now.
    Open,
    /// Nothing is known against it, but a request would have to wait for a connection.
    Unconnected,
    /// The last try did not reach it.
    Down,
}

impl Member {
    pub(crate) fn new(address: String) -> Self {
        Self { address, link: Mutex::new(Link::Closed), down: AtomicBool::new(false) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    pub(crate) fn standing(&self) -> Standing {
        match &*self.link.lock() {
            _ if self.is_down() => Standing::Down,
            Link::Open(_) => Standing::Open,
            Link::Closed | Link::Opening(_) => Standing::Unconnected,
        }
    }

    /// Notes whether a try reached the member; tells whether that is news.
    pub(crate) fn set_down(&self, down: bool) -> bool {
        // Read first: nearly every call finds nothing new, and a read does not fight for the line.
        self.is_down() != down && self.down.swap(down, Ordering::Relaxed) != down
    }

    /// Makes a connection in the background, unless there is one. Needs a runtime around it.
    pub(crate) fn connect(self: &Arc<Self>, network: &Arc<dyn Network>) {
        _ = self.link(network);
    }

    /// The channel of the connection that there is, or of the one that is made now.
    ///
    /// # Errors
    /// No connection could be made; the next call tries anew.
    ///
    /// # Cancel safety
    /// Safe: the attempt goes on for others.
    pub(crate) async fn channel(
        self: &Arc<Self>,
        network: &Arc<dyn Network>,
    ) -> Result<Channel, Failure> {
        let mut attempt = match self.link(network) {
            Ok(channel) => return Ok(channel),
            Err(attempt) => attempt,
        };
        match attempt.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().expect("waited for"),
            Err(_) => Err(self.failure("the runtime of the connection ended".into())),
        }
    }

    fn link(self: &Arc<Self>, network: &Arc<dyn Network>) -> Result<Channel, Attempt> {
        let mut link = self.link.lock();
        match &*link {
            Link::Open(channel) => return Ok(channel.clone()),
            // An error tells that the attempt's runtime ended with it.
            Link::Opening(attempt) if attempt.has_changed().is_ok() => return Err(attempt.clone()),
            Link::Opening(_) | Link::Closed => {}
        }
        let attempt = self.start(network);
        *link = Link::Opening(attempt.clone());
        Err(attempt)
    }

    /// Forgets the connection: a call found that it has ended.
    pub(crate) fn disconnect(&self) {
        let mut link = self.link.lock();
        if matches!(*link, Link::Open(_)) {
            *link = Link::Closed;
        }
    }

    fn start(self: &Arc<Self>, network: &Arc<dyn Network>) -> Attempt {
        let (sender, attempt) = watch::channel(None);
        let (member, network) = (Arc::clone(self), Arc::clone(network));
        tokio::spawn(async move {
            let made = network::channel(&*network, &member.address).await;
            let made = made.map_err(|error| member.failure(error::root(&error)));
            *member.link.lock() = match &made {
                Ok(channel) => Link::Open(channel.clone()),
                Err(_) => Link::Closed,
            };
            sender.send_replace(Some(made));
        });
        attempt
    }

    fn failure(&self, message: String) -> Failure {
        Failure::Connection { address: self.address.clone(), message }
    }
}
