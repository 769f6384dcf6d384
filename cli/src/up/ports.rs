//! Ports of the members: a hundred apart, each member's four as far apart as on Kubernetes.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use larder_proto::config::Listen;
use larder_proto::names::{ADMIN_PORT, GRPC_PORT, HTTP_PORT, PEER_PORT};
use larder_runtime::net::listen;

use crate::exit::BadConfiguration;

/// Distance from one member's ports to the next one's.
const STEP: u16 = 100;

/// Loopback addresses of the members with these ordinals. From base 7600 the first one has the
/// ports of the documentation; base 0 takes free ones.
///
/// # Errors
/// A port in use, or beyond the last one.
pub(super) fn choose(base: u16, members: Range<usize>) -> Result<Vec<Listen>, BadConfiguration> {
    let mut chosen = Vec::with_capacity(members.len());
    for member in members {
        let offset = u16::try_from(member).ok().and_then(|member| member.checked_mul(STEP));
        let at = |port: u16| -> Result<String, BadConfiguration> {
            if base == 0 {
                return Ok("127.0.0.1:0".into());
            }
            let port = offset
                .and_then(|offset| base.checked_add(offset)?.checked_add(port - GRPC_PORT))
                .ok_or_else(|| {
                    BadConfiguration(format!("--port-base {base} leaves too few ports"))
                })?;
            free(port)
        };
        chosen.push(Listen {
            grpc: at(GRPC_PORT)?,
            peer: at(PEER_PORT)?,
            http: at(HTTP_PORT)?,
            admin: at(ADMIN_PORT)?,
        });
    }
    Ok(chosen)
}

fn free(port: u16) -> Result<String, BadConfiguration> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match listen(address, false) {
        Ok(_) => Ok(address.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(BadConfiguration(
            format!("port {port} is in use; choose others with --port-base (0 takes free ones)"),
        )),
        Err(error) => Err(BadConfiguration(format!("cannot listen on port {port}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named() {
        let held = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), false).expect("loopback");
        let port = held.local_addr().expect("bound").port();
        let error = free(port).expect_err("held").to_string();
        assert!(error.starts_with(&format!("port {port} is in use; ")), "{error}");
    }

    #[test]
    fn ports_beyond_the_last_are_refused() {
        let error = choose(65_500, 0..3).expect_err("too high").to_string();
        assert_eq!(error, "--port-base 65500 leaves too few ports");
        assert_eq!(choose(0, 0..2).expect("any")[1].grpc, "127.0.0.1:0");
    }
}
