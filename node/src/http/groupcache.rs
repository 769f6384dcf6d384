//! `GET /_cache/<group>/<key>`: groupcache's HTTP peer protocol, with a protobuf body. Both parts
//! are percent-encoded and may contain encoded slashes, so the path is split before it is decoded.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use larder_engine::Value;
use larder_proto::groupcachepb::GetResponse;
use larder_proto::names::GROUPCACHE_HTTP_PREFIX;
use prost::Message;

use super::parts::{retry_headers, unescape};
use crate::cache::Cache;
use crate::status::{ABSENT, ErrorReply};

/// The content type that groupcache's own server sends.
const PROTOBUF: &str = "application/x-protobuf";

/// Serves the route.
pub(super) async fn read(State(cache): State<Cache>, uri: Uri) -> Response {
    let Some((group, key)) = parse(uri.path()) else {
        let usage = format!("use {GROUPCACHE_HTTP_PREFIX}<group>/<key>\n");
        return (StatusCode::BAD_REQUEST, usage).into_response();
    };
    match cache.read(&group, &key).await {
        Ok(answer) => match answer.value {
            Value::Present(value) => {
                let body = GetResponse { value, minute_qps: 0.0 }.encode_to_vec();
                ([(CONTENT_TYPE, PROTOBUF)], body).into_response()
            }
            Value::Absent => (StatusCode::NOT_FOUND, format!("{ABSENT}\n")).into_response(),
        },
        Err(error) => {
            let error = ErrorReply::from(error);
            let body = format!("{}\n", error.message);
            (error.http_status(), retry_headers(&error), body).into_response()
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
    fn the_path_is_split_before_its_parts_are_decoded() {
        let both = |group: &str, key: &[u8]| Some((group.to_owned(), key.to_vec()));
        assert_eq!(parse("/_cache/students/Tom"), both("students", b"Tom"));
        assert_eq!(parse("/_cache/a%2Fb/c%2Fd%20e%ff"), both("a/b", b"c/d e\xff"));
        assert_eq!(parse("/_cache/g/a/b"), both("g", b"a/b"));
        assert_eq!(parse("/_cache/g/a+b"), both("g", b"a+b"));
        assert_eq!(parse("/_cache/g/"), both("g", b""));
        assert_eq!(parse("/_cache/g"), None);
    }
}
