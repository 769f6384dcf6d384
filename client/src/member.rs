//! One member as this client sees it: an address, a channel, and whether it was reached lately.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tonic::codegen::Service;
use tonic::codegen::http::Request;
use tonic::transport::Channel;

use crate::error::Failure;
use crate::network::Network;

pub(crate) struct Member {
    address: String,
    /// Opened at first use, inside a runtime; dropped when its worker is gone.
    channel: Mutex<Option<Channel>>,
    /// The last try did not reach it. Such members are asked last.
    down: AtomicBool,
}

impl Member {
    pub(crate) fn new(address: String) -> Self {
        Self { address, channel: Mutex::new(None), down: AtomicBool::new(false) }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Notes whether a try reached the member; tells whether that is news.
    pub(crate) fn set_down(&self, down: bool) -> bool {
        // Read first: nearly every call finds nothing new, and a read does not fight for the line.
        self.is_down() != down && self.down.swap(down, Ordering::Relaxed) != down
    }

    /// A channel that takes a request now.
    ///
    /// # Errors
    /// The address cannot be one, or the channel's runtime ended; the next call opens another.
    pub(crate) async fn channel(&self, network: &dyn Network) -> Result<Channel, Failure> {
        let mut channel = self.open(network).map_err(|e| self.failure(e.to_string()))?;
        let ready = poll_fn(|cx| {
            <Channel as Service<Request<tonic::body::Body>>>::poll_ready(&mut channel, cx)
        });
        match ready.await {
            Ok(()) => Ok(channel),
            Err(error) => {
                *self.channel.lock() = None;
                Err(self.failure(error.to_string()))
            }
        }
    }

    pub(crate) fn failure(&self, message: String) -> Failure {
        Failure::Connection { address: self.address.clone(), message }
    }

    fn open(&self, network: &dyn Network) -> std::io::Result<Channel> {
        let mut slot = self.channel.lock();
        if let Some(channel) = &*slot {
            return Ok(channel.clone());
        }
        Ok(slot.insert(network.open(&self.address)?).clone())
    }
}
