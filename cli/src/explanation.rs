//! An answer's explanation, as sentences and as JSON.

use larder_client::{Answer, Explanation, Source};
use larder_proto::explanation::{json, source_name};
use larder_proto::v1::StaleReason;
use serde_json::{Map, Value};

use crate::exit;
use crate::output::encoded;
use crate::text::duration;

/// An answer as JSON, in the terms of the HTTP gateway.
pub(crate) fn answer_json(key: &[u8], answer: &Answer) -> Value {
    let mut object = key_json(key);
    object.insert("found".into(), answer.value().is_some().into());
    if let Some(value) = answer.value() {
        let (text, encoding) = encoded(value);
        object.insert("value".into(), text.into());
        object.insert("encoding".into(), encoding.into());
        object.insert("stale".into(), answer.is_stale().into());
    }
    if let Some(explanation) = answer.explanation() {
        object.insert("explanation".into(), json(explanation));
    }
    object.into()
}

/// A key as the start of a JSON object.
pub(crate) fn key_json(key: &[u8]) -> Map<String, Value> {
    let (text, encoding) = encoded(key);
    let pairs = [("key".to_owned(), text.into()), ("keyEncoding".to_owned(), encoding.into())];
    pairs.into_iter().collect()
}

/// The exit code of one answer.
pub(crate) fn code(answer: &Answer) -> u8 {
    match answer {
        Answer::Found { .. } => exit::OK,
        Answer::Absent { .. } => exit::ABSENT,
    }
}

/// The explanation as sentences.
pub(crate) fn lines(e: &Explanation) -> Vec<String> {
    let mut lines = vec![format!("{} (source {})", origin(e.source()), source_name(e.source()))];
    lines.push(if e.served_by == e.owner {
        format!("{} was asked and owns the key (ring revision {})", e.served_by, e.ring_revision)
    } else {
        format!(
            "{} was asked; {} owns the key (ring revision {})",
            e.served_by, e.owner, e.ring_revision
        )
    });
    if !e.previous_owner.is_empty() {
        lines.push(format!("{} owned the key until the ring changed lately", e.previous_owner));
    }
    lines.push(age(e));
    lines.extend(why_stale(e.stale_reason()).map(str::to_owned));
    if !e.policy.is_empty() {
        lines.push(format!("the group's eviction policy is {}", e.policy));
    }
    lines
}

fn origin(source: Source) -> &'static str {
    match source {
        Source::Local => "the owner had it in memory",
        Source::Owner => "the owner had it in memory and was asked over the network",
        Source::Hot => "the asked member had a copy of another member's entry",
        Source::Loaded => "no member had it, so this read loaded it from the origin",
        Source::Stale => "it is past its time to live, and the group's freshness allows it",
        Source::Absent => "the origin says there is no such key",
        Source::Unspecified => "the member does not say where it came from",
    }
}

fn why_stale(reason: StaleReason) -> Option<&'static str> {
    Some(match reason {
        StaleReason::Unspecified => return None,
        StaleReason::Revalidating => "stale while a reload runs",
        StaleReason::OriginFailed => "stale because the origin failed within the last second",
        StaleReason::OriginSuspended => {
            "stale because the origin fails again and again: it is asked once a second"
        }
        StaleReason::RateLimited => "stale because originLimits.loadsPerSecond is reached",
        StaleReason::OriginBusy => "stale because originLimits.concurrency is reached",
        StaleReason::OriginOverloaded => {
            "stale because loads arrive faster than the origin answers them"
        }
        StaleReason::Deadline => "stale because the origin did not answer within the deadline",
        StaleReason::Overloaded => "stale because too many requests wait at the owner",
    })
}

fn age(e: &Explanation) -> String {
    let loaded = match e.version {
        0 => format!("loaded {} ago", duration(e.age_ms)),
        version => format!("loaded {} ago, version {version}", duration(e.age_ms)),
    };
    if e.stale || e.remaining_ms == 0 {
        format!("{loaded}; its time to live is over")
    } else {
        format!("{loaded}; {} left to live", duration(e.remaining_ms))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stale_answer_says_why_it_was_allowed() {
        let lines = lines(&Explanation {
            source: Source::Stale.into(),
            owner: "shop-1".into(),
            served_by: "shop-0".into(),
            ring_revision: 7,
            age_ms: 61_000,
            stale: true,
            stale_reason: StaleReason::OriginSuspended.into(),
            policy: "Lru".into(),
            previous_owner: "shop-2".into(),
            ..Explanation::default()
        });
        assert_eq!(
            lines,
            [
                "it is past its time to live, and the group's freshness allows it (source STALE)",
                "shop-0 was asked; shop-1 owns the key (ring revision 7)",
                "shop-2 owned the key until the ring changed lately",
                "loaded 1 min 1 s ago; its time to live is over",
                "stale because the origin fails again and again: it is asked once a second",
                "the group's eviction policy is Lru",
            ]
        );
    }

    #[test]
    fn keys_and_values_that_are_not_text_are_base64() {
        let found = Answer::Found { value: vec![0xff].into(), stale: false, explanation: None };
        assert_eq!(
            answer_json(b"\xfe", &found),
            json!({
                "key": "/g==", "keyEncoding": "base64", "found": true, "value": "/w==",
                "encoding": "base64", "stale": false,
            })
        );
    }
}
