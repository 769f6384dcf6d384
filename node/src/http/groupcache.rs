//! `GET /_cache/<group>/<key>`: groupcache's HTTP peer protocol, a protobuf body. Both parts are
//! percent-escaped and may hold escaped slashes, so the path is taken apart before it is unescaped.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use larder_engine::Value;
use larder_proto::groupcachepb::GetResponse;
use larder_proto::names::GROUPCACHE_HTTP_PREFIX;
use prost::Message;

use super::{read as read_key, refused, unescape};
use crate::cache::Cache;
use crate::grpc::status;

/// What groupcache's own server says of its bodies.
const PROTOBUF: &str = "application/x-protobuf";

/// Serves the route.
pub(super) async fn read(State(cache): State<Cache>, uri: Uri) -> Response {
    let Some((group, key)) = parse(uri.path()) else {
        let usage = format!("ask with {GROUPCACHE_HTTP_PREFIX}<group>/<key>\n");
        return (StatusCode::BAD_REQUEST, usage).into_response();
    };
    match read_key(&cache, &group, &key).await {
        Ok(answer) => match answer.value {
            Value::Present(value) => {
                let body = GetResponse { value, minute_qps: 0.0 }.encode_to_vec();
                ([(CONTENT_TYPE, PROTOBUF)], body).into_response()
            }
            Value::Absent => {
                (StatusCode::NOT_FOUND, format!("{}\n", status::absent().message())).into_response()
            }
        },
        Err(error) => {
            let (status, retry) = refused(&error);
            (status, retry, format!("{error}\n")).into_response()
        }
    }
}

fn parse(path: &str) -> Option<(String, Vec<u8>)> {
    let (group, key) = path.strip_prefix(GROUPCACHE_HTTP_PREFIX)?.split_once('/')?;
    Some((String::from_utf8(unescape(group)).ok()?, unescape(key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_parts_are_taken_apart_before_they_are_unescaped() {
        let both = |group: &str, key: &[u8]| Some((group.to_owned(), key.to_vec()));
        assert_eq!(parse("/_cache/students/Tom"), both("students", b"Tom"));
        assert_eq!(parse("/_cache/a%2Fb/c%2Fd%20e%ff"), both("a/b", b"c/d e\xff"));
        assert_eq!(parse("/_cache/g/a/b"), both("g", b"a/b"));
        assert_eq!(parse("/_cache/g/a+b"), both("g", b"a+b"));
        assert_eq!(parse("/_cache/g/"), both("g", b""));
        assert_eq!(parse("/_cache/g"), None);
    }
}
