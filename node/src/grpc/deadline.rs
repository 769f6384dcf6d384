//! The deadline of a gRPC call.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// Source: gRPC over HTTP/2, "Timeout".
const TIMEOUT_HEADER: &str = "grpc-timeout";

/// The deadline of a call: the caller's own, or the default.
#[must_use]
pub fn call_deadline(metadata: &MetadataMap, default: Instant) -> Instant {
    metadata
        .get(TIMEOUT_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(parse_timeout)
        .and_then(|timeout| Instant::now().checked_add(timeout))
        .unwrap_or(default)
}

/// At most eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_parse_in_every_unit_and_invalid_ones_are_ignored() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("99999999m", Some(Duration::from_millis(99_999_999))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("100000000m", None),
            ("+1S", None),
            ("S", None),
            ("1", None),
            ("1é", None),
            ("", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text:?}");
        }
    }
}
