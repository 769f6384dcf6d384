//! `GET /api?group=students&key=Tom`: one key as JSON.
//!
//! A value that is UTF-8 is a JSON string, any other is base64; `encoding` says which. Absent is
//! 404 with `"found": false`. An error has the name of its gRPC code and its reason; 429 and 503
//! say in `Retry-After` when to retry.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use larder_engine::Value;
use larder_proto::v1::Explanation;
use serde_json::{Map, json};

use super::parts::{retry_headers, unescape};
use crate::cache::{Answer, Cache};
use crate::status::ErrorReply;

/// The query's parameters. Keys are bytes, so the query is not parsed as text.
#[derive(Debug, PartialEq, Eq)]
struct ReadQuery {
    group: String,
    key: Vec<u8>,
    explain: bool,
}

/// Serves the route.
pub(super) async fn read(State(cache): State<Cache>, RawQuery(query): RawQuery) -> Response {
    let query = match parse(query.as_deref().unwrap_or_default()) {
        Ok(query) => query,
        Err(problem) => {
            let body = json!({"error": "InvalidArgument", "message": problem});
            return (StatusCode::BAD_REQUEST, Json(body)).into_response();
        }
    };
    match cache.read(&query.group, &query.key).await {
        Ok(answer) => {
            let explanation =
                query.explain.then(|| cache.explain(&query.group, &query.key, &answer));
            answer_body(&query, &answer, explanation.as_ref()).into_response()
        }
        Err(error) => error_body(&query.group, &ErrorReply::from(error)),
    }
}

fn error_body(group: &str, error: &ErrorReply) -> Response {
    let mut body = json!({
        "group": group,
        "error": format!("{:?}", error.code),
        "reason": error.reason,
        "message": error.message,
    });
    if error.retry_after.is_some() {
        body["retryAfterMs"] = error.retry_after_ms().into();
    }
    (error.http_status(), retry_headers(error), Json(body)).into_response()
}

fn answer_body(
    query: &ReadQuery,
    answer: &Answer,
    explanation: Option<&Explanation>,
) -> (StatusCode, Json<serde_json::Value>) {
    let mut body = Map::new();
    body.insert("group".into(), query.group.as_str().into());
    body.insert("key".into(), String::from_utf8_lossy(&query.key).into());
    let status = match &answer.value {
        Value::Present(value) => {
            let (text, encoding) = match std::str::from_utf8(value) {
                Ok(text) => (text.to_owned(), "utf-8"),
                Err(_) => (BASE64_STANDARD.encode(value), "base64"),
            };
            body.insert("found".into(), true.into());
            body.insert("value".into(), text.into());
            body.insert("encoding".into(), encoding.into());
            body.insert("stale".into(), answer.is_stale().into());
            StatusCode::OK
        }
        Value::Absent => {
            body.insert("found".into(), false.into());
            StatusCode::NOT_FOUND
        }
    };
    if let Some(e) = explanation {
        body.insert("explanation".into(), larder_proto::explanation::json(e));
    }
    (status, Json(body.into()))
}

fn parse(query: &str) -> Result<ReadQuery, String> {
    let (mut group, mut key, mut explain) = (None, None, false);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = unescape(&value.replace('+', " "));
        match name {
            "group" => group = Some(value),
            "key" => key = Some(value),
            "explain" => explain = matches!(value.as_slice(), b"" | b"1" | b"true"),
            _ => {}
        }
    }
    let usage = "use /api?group=<group>&key=<key>";
    let group = group.ok_or_else(|| format!("no group: {usage}"))?;
    let group = String::from_utf8(group).map_err(|_| "the group's name is not text".to_owned())?;
    let key = key.ok_or_else(|| format!("no key: {usage}"))?;
    Ok(ReadQuery { group, key, explain })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_parsed_as_bytes() {
        let query = parse("group=students&key=a%2Fb%00%ff+c&explain=true").expect("complete");
        assert_eq!(query.key, b"a/b\0\xff c");
        assert!(query.explain && query.group == "students");
        assert!(parse("key=Tom").expect_err("no group").contains("/api?group="));
        assert!(parse("group=g").expect_err("no key").contains("no key"));
        assert!(
            parse("group=g&key=")
                .expect("the cache refuses an empty key, not the parser")
                .key
                .is_empty()
        );
    }
}
