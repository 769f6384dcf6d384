//! An explanation as JSON: the form of the HTTP gateway and of `larder get --output json`.

use serde_json::{Value, json};

use crate::v1::{Explanation, Source, StaleReason};

/// `SOURCE_LOCAL` as `LOCAL`.
#[must_use]
pub fn source_name(source: Source) -> &'static str {
    without_prefix(source.as_str_name(), "SOURCE_")
}

/// `STALE_REASON_DEADLINE` as `DEADLINE`.
#[must_use]
pub fn stale_reason_name(reason: StaleReason) -> &'static str {
    without_prefix(reason.as_str_name(), "STALE_REASON_")
}

/// The JSON object. `staleReason` is there only for a stale answer, and `previousOwner` only for a
/// key that another member owned a short time ago.
#[must_use]
pub fn json(e: &Explanation) -> Value {
    let mut object = json!({
        "source": source_name(e.source()),
        "owner": e.owner,
        "servedBy": e.served_by,
        "ringRevision": e.ring_revision,
        "ageMs": e.age_ms,
        "remainingMs": e.remaining_ms,
        "version": e.version,
        "stale": e.stale,
        "policy": e.policy,
    });
    if !e.previous_owner.is_empty() {
        object["previousOwner"] = e.previous_owner.as_str().into();
    }
    if e.stale_reason() != StaleReason::Unspecified {
        object["staleReason"] = stale_reason_name(e.stale_reason()).into();
    }
    object
}

fn without_prefix(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_answer_says_why_and_a_fresh_one_says_nothing() {
        let mut explanation = Explanation { owner: "shop-1".into(), ..Explanation::default() };
        explanation.set_source(Source::Local);
        let fresh = json(&explanation);
        assert_eq!((&fresh["source"], &fresh["owner"]), (&json!("LOCAL"), &json!("shop-1")));
        assert!(fresh.get("staleReason").is_none(), "{fresh}");
        assert!(fresh.get("previousOwner").is_none(), "{fresh}");
        explanation.previous_owner = "shop-2".into();
        assert_eq!(json(&explanation)["previousOwner"], "shop-2");
        explanation.set_stale_reason(StaleReason::OriginSuspended);
        assert_eq!(json(&explanation)["staleReason"], "ORIGIN_SUSPENDED");
    }
}
