//! One HTTP request to a server on this machine. It never follows, retries or keeps a connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Longer than anything on loopback takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The status and the body of a GET.
///
/// # Errors
/// When nobody answers in time, or the answer is not HTTP.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Version 1.0 has no chunks: the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse(&answer).with_context(|| format!("http://{address}{path} gave no HTTP"))
}

fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_told_apart() {
        let answer = "HTTP/1.0 404 Not Found\r\na: b\r\n\r\nno\r\n\r\nsuch";
        assert_eq!(parse(answer), Some((404, "no\r\n\r\nsuch".into())));
        assert_eq!(parse("SSH-2.0"), None);
    }
}
