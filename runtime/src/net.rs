//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps for us before they are accepted.
const BACKLOG: i32 = 1024;

/// Opens a non-blocking listener. With `reuse_port` several listeners share one address and the
/// kernel spreads connections over them (`SO_REUSEPORT`), one per serving thread.
///
/// # Errors
/// The address is in use, not ours, or needs a privilege.
pub fn listen(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Opens `count` listeners on one address. With port 0 the first takes a free port and the others
/// share it. A port that another process holds is refused, which `SO_REUSEPORT` alone would not
/// do between processes of one user.
///
/// # Errors
/// As [`listen`]; `AddrInUse` when somebody else listens there.
pub fn listen_shared(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // A probe without SO_REUSEPORT fails while anybody listens on the port; it is closed again
    // before the shared listeners open. Nothing was accepted on it, so nothing lingers.
    let probe = listen(address, false)?;
    let address = probe.local_addr()?;
    drop(probe);
    (0..count).map(|_| listen(address, true)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn shared_listeners_hold_one_address() {
        let listeners = listen_shared(loopback(), 3).expect("loopback");
        let first = listeners[0].local_addr().expect("bound");
        assert_eq!(listeners.len(), 3);
        assert!(listeners.iter().all(|l| l.local_addr().expect("bound") == first));
    }

    #[test]
    fn a_port_that_is_shared_already_is_refused() {
        let held = listen_shared(loopback(), 1).expect("loopback");
        let address = held[0].local_addr().expect("bound");
        let error = listen_shared(address, 1).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
