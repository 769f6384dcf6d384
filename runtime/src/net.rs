//! Listening sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel queues until they are accepted.
const BACKLOG: i32 = 1024;

/// Opens a non-blocking listener. With `reuse_port` (`SO_REUSEPORT`), several listeners share one
/// address, one per serving thread, and the kernel distributes connections among them.
///
/// # Errors
/// The address is in use, is not an address of this machine, or needs a privilege.
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

/// Opens `count` listeners on one address. With port 0, all of them share one free port.
///
/// A port on which another process listens is refused. `SO_REUSEPORT` alone would allow it between
/// processes of one user.
///
/// # Errors
/// As for [`listen`]; `AddrInUse` if the port already has a listener.
pub fn listen_shared(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // A probe without SO_REUSEPORT fails while the port has any listener. It is closed before the
    // shared listeners open; it has accepted nothing, so no connection lingers.
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
    fn shared_listeners_have_one_address() {
        let listeners = listen_shared(loopback(), 3).expect("loopback");
        let first = listeners[0].local_addr().expect("bound");
        assert_eq!(listeners.len(), 3);
        assert!(listeners.iter().all(|l| l.local_addr().expect("bound") == first));
    }

    #[test]
    fn a_port_with_shared_listeners_is_refused() {
        let held = listen_shared(loopback(), 1).expect("loopback");
        let address = held[0].local_addr().expect("bound");
        let error = listen_shared(address, 1).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
