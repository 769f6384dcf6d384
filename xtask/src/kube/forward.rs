//! `kube forward`: carries connections from a loopback port of this machine into the cluster's
//! network. `kube up` starts it; it runs until `kube down`.
//!
//! `up` binds the listening socket outside the network namespaces and passes it on as standard
//! input. This process itself runs in node 1's namespace, so it accepts connections on the
//! machine's loopback and opens connections inside the cluster.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Inside one machine a connection is accepted or refused at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed accept: the process is out of file descriptors until connections end.
const PAUSE: Duration = Duration::from_millis(100);

/// Binds the socket that [`run`] is to inherit: a free port of the machine's loopback.
///
/// # Errors
/// When no port is free.
pub(crate) fn listen() -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a loopback port for the API server")
}

/// Forwards every connection of the listening socket on standard input. It never returns.
///
/// # Errors
/// When standard input is closed.
pub(crate) fn run(to: SocketAddr) -> Result<()> {
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned().context("inherit the socket")?;
    serve(&TcpListener::from(socket), to);
    Ok(())
}

fn serve(listener: &TcpListener, to: SocketAddr) {
    loop {
        match listener.accept() {
            Ok((client, _)) => {
                // Its client sees the end of a connection that fails.
                thread::spawn(move || drop(relay(client, to)));
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

/// Copies both directions until both have ended.
fn relay(client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect_timeout(&to, CONNECT_TIMEOUT)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let requests = thread::spawn(move || copy(from_client, to_server));
    copy(server, client);
    // A panic there is a bug of this program and has been printed.
    drop(requests.join());
    Ok(())
}

/// Copies until `from` ends, then ends that direction of `to`: a half-closed connection stays so.
fn copy(mut from: TcpStream, mut to: TcpStream) {
    // Either side may disappear at any time, which ends the copy like an orderly end does.
    drop(io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn both_directions_are_forwarded_until_each_ends() {
        let server = listen().expect("a port");
        let to = server.local_addr().expect("bound");
        let forwarder = listen().expect("a port");
        let address = forwarder.local_addr().expect("bound");
        thread::spawn(move || serve(&forwarder, to));
        let answering = thread::spawn(move || {
            let (mut connection, _) = server.accept().expect("the forwarder connects");
            let mut request = String::new();
            connection.read_to_string(&mut request).expect("the request ends");
            write!(connection, "answer to {request}").expect("the other direction is open");
        });
        let mut client = TcpStream::connect(address).expect("the forwarder accepts");
        client.write_all(b"request").expect("sent");
        client.shutdown(Shutdown::Write).expect("half closed");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("the answer ends");
        assert_eq!(answer, "answer to request");
        answering.join().expect("the server saw the end of the request");
    }

    #[test]
    fn a_refused_connection_is_closed_and_the_next_one_is_served() {
        let gone = listen().expect("a port");
        let to = gone.local_addr().expect("bound");
        drop(gone);
        let forwarder = listen().expect("a port");
        let address = forwarder.local_addr().expect("bound");
        thread::spawn(move || serve(&forwarder, to));
        for _ in 0..2 {
            let mut client = TcpStream::connect(address).expect("the forwarder accepts");
            let mut answer = Vec::new();
            assert_eq!(client.read_to_end(&mut answer).unwrap_or_default(), 0);
        }
    }
}
