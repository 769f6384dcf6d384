//! A TCP proxy that a test can cut, or freeze with its connections open.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// State of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    /// Connections are closed, new ones at once.
    Cut,
    /// Connections stay open and pass no bytes.
    Frozen,
}

/// A TCP proxy on loopback.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    link: watch::Sender<Link>,
}

impl Proxy {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let link = watch::Sender::new(Link::Up);
        let states = link.subscribe();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("loopback");
                tokio::spawn(relay(stream, target, states.clone()));
            }
        });
        Self { address, link }
    }

    pub(super) fn cut(&self) {
        self.link.send_replace(Link::Cut);
    }

    pub(super) fn freeze(&self) {
        self.link.send_replace(Link::Frozen);
    }

    pub(super) fn restore(&self) {
        self.link.send_replace(Link::Up);
    }
}

/// Passes bytes while the proxy is up. Freezing drops the copy, which may lose bytes in flight: no
/// connection survives a freeze.
async fn relay(mut near: TcpStream, target: SocketAddr, mut states: watch::Receiver<Link>) {
    if *states.borrow_and_update() == Link::Cut {
        return;
    }
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    let is_up = *states.borrow() == Link::Up;
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far), if is_up => {}
        _ = states.wait_for(|link| *link != Link::Up) => {}
    }
    // Until the near side gives up, so that retries during a long freeze do not pile up.
    let mut nowhere = tokio::io::sink();
    tokio::select! {
        _ = tokio::io::copy(&mut near, &mut nowhere) => {}
        _ = states.wait_for(|link| *link != Link::Frozen) => {}
    }
}
