//! Requests without a client that adds behaviour of its own.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use larder_proto::v1::GetRequest;
use prost::Message;
use tonic::Code;

/// One GET: status and body.
pub(crate) async fn http_get(address: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    http_get_of(address, "localhost", path).await
}

/// One GET with this host in its header.
pub(crate) async fn http_get_of(address: SocketAddr, host: &str, path: &str) -> (u16, Vec<u8>) {
    let stream = tokio::net::TcpStream::connect(address).await.expect("listening");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", host).body(Empty::<Bytes>::new());
    let response = sender.send_request(request.expect("a path")).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, body.to_vec())
}

/// One Get over plain HTTP/2 with a timeout that only the server enforces. Returns the code.
pub(crate) async fn raw_get(address: SocketAddr, group: &str, key: &str, timeout: &str) -> Code {
    let message = GetRequest {
        group: group.into(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        explain: false,
    }
    .encode_to_vec();
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let frame = [&[0], &length[..], &message[..]].concat();
    let stream = tokio::net::TcpStream::connect(address).await.expect("listening");
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://{address}/larder.v1.Cache/Get"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(Full::<Bytes>::from(frame));
    let response = sender.send_request(request.expect("a request")).await.expect("an answer");
    let status = response.headers().get("grpc-status").expect("an error has no body");
    Code::from_bytes(status.as_bytes())
}
