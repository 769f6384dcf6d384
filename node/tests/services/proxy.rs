//! A wire that a test can cut, or freeze with its connections open.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Whole,
    /// Connections end and new ones are closed at once.
    Cut,
    /// Connections stay open and carry nothing.
    Frozen,
}

/// A TCP proxy on loopback.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    wire: watch::Sender<Wire>,
}

impl Proxy {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let wire = watch::Sender::new(Wire::Whole);
        let states = wire.subscribe();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("loopback");
                tokio::spawn(carry(stream, target, states.clone()));
            }
        });
        Self { address, wire }
    }

    pub(super) fn cut(&self) {
        self.wire.send_replace(Wire::Cut);
    }

    pub(super) fn freeze(&self) {
        self.wire.send_replace(Wire::Frozen);
    }

    pub(super) fn mend(&self) {
        self.wire.send_replace(Wire::Whole);
    }
}

/// Carries bytes while the wire is whole. Copying is dropped while it is frozen: bytes under way
/// may be lost then, as no connection outlives a freeze.
async fn carry(mut near: TcpStream, target: SocketAddr, mut states: watch::Receiver<Wire>) {
    if *states.borrow_and_update() == Wire::Cut {
        return;
    }
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    let whole = *states.borrow() == Wire::Whole;
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far), if whole => {}
        _ = states.wait_for(|wire| *wire != Wire::Whole) => {}
    }
    let _ = states.wait_for(|wire| *wire != Wire::Frozen).await;
}
