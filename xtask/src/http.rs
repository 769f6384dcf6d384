//! One HTTP request to a server on this machine. It never follows redirects, retries or reuses a
//! connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Deadline of a request on loopback.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a GET and returns the status and the body.
///
/// # Errors
/// When there is no response in time, or the response is not HTTP.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    // HTTP/1.0 has no chunked encoding: the body ends with the connection.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    parse(&response).with_context(|| format!("the response of http://{address}{path} is not HTTP"))
}

fn parse(response: &str) -> Option<(u16, String)> {
    let (head, body) = response.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_empty_line_ends_the_head() {
        let response = "HTTP/1.0 404 Not Found\r\na: b\r\n\r\nno\r\n\r\nsuch";
        assert_eq!(parse(response), Some((404, "no\r\n\r\nsuch".into())));
        assert_eq!(parse("SSH-2.0"), None);
    }
}
