//! What both routes share: decoded parts of a URL, and the headers of an error.

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;

use crate::status::ErrorReply;

/// Decodes a percent-encoded part of a URL. Keys need not be text.
pub(super) fn unescape(part: &str) -> Vec<u8> {
    percent_decode_str(part).collect()
}

/// `Retry-After` for 429 and 503.
pub(super) fn retry_headers(error: &ErrorReply) -> HeaderMap {
    let seconds = error.http_retry_after();
    seconds.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))).into_iter().collect()
}
