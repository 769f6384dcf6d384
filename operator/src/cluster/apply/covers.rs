//! Owns the comparison of a live object with the wanted one. Pure.

use serde_json::Value;

/// Keys that identify the entries of Kubernetes' lists. The first that every entry has is used.
const LIST_KEYS: [&str; 8] =
    ["name", "uid", "mountPath", "containerPort", "key", "topologyKey", "type", "ip"];

/// True when every field of `wanted` is in `live` with an equal value. Fields that only `live` has
/// (the server's defaults, other managers' fields) are ignored. An empty wanted value matches an
/// absent one. Quantities are compared by value, because the server rewrites `0.5` as `500m`.
#[must_use]
pub fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, wanted)| {
            live.get(key).map_or_else(|| is_empty(wanted), |live| covers(live, wanted))
        }),
        (Value::Array(live), Value::Array(wanted)) => covers_list(live, wanted),
        (Value::String(live), Value::String(wanted)) => live == wanted || same_amount(live, wanted),
        (live, wanted) => live == wanted || (is_empty(live) && is_empty(wanted)),
    }
}

fn covers_list(live: &[Value], wanted: &[Value]) -> bool {
    let has = |entries: &[Value], key: &str| entries.iter().all(|entry| entry.get(key).is_some());
    let key = LIST_KEYS.iter().find(|key| has(live, key) && has(wanted, key));
    match key.filter(|_| !wanted.is_empty()) {
        Some(key) => wanted.iter().all(|wanted| {
            // Several entries can share a key (a port for TCP and for UDP): one of them must match.
            live.iter().any(|live| live.get(key) == wanted.get(key) && covers(live, wanted))
        }),
        None => {
            live.len() == wanted.len()
                && live.iter().zip(wanted).all(|(live, wanted)| covers(live, wanted))
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

fn same_amount(a: &str, b: &str) -> bool {
    matches!((thousandths(a), thousandths(b)), (Some(a), Some(b)) if a == b)
}

/// A quantity in thousandths; `None` for any other text.
fn thousandths(text: &str) -> Option<u128> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let factor: u128 = match suffix {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "Ki" => 1_000 << 10,
        "Mi" => 1_000 << 20,
        "Gi" => 1_000 << 30,
        "Ti" => 1_000 << 40,
        _ => return None,
    };
    let digits = u32::try_from(fraction.len()).ok().filter(|digits| *digits <= 9)?;
    let scaled: u128 = format!("{whole}{fraction}").parse().ok()?;
    scaled.checked_mul(factor).map(|amount| amount / 10u128.pow(digits))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_servers_defaults_are_ignored_and_wanted_fields_are_compared() {
        let live = json!({
            "spec": {
                "replicas": 3,
                "minReadySeconds": 0,
                "template": {"spec": {"containers": [
                    {"name": "injected", "image": "x"},
                    {"name": "member", "image": "larder-node:1", "terminationMessagePath": "/dev/log",
                     "ports": [{"name": "grpc", "containerPort": 7600, "protocol": "TCP"}],
                     "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}}},
                ]}},
            },
            "status": {"readyReplicas": 3},
        });
        let wanted = |image: &str, memory: &str| {
            json!({"spec": {
                "replicas": 3, "paused": false, "volumeClaimTemplates": [],
                "template": {"spec": {"containers": [
                {"name": "member", "image": image,
                 "ports": [{"name": "grpc", "containerPort": 7600}],
                 "resources": {"limits": {"cpu": "0.5", "memory": memory}}, "env": []},
                ]}},
            }})
        };
        assert!(covers(&live, &wanted("larder-node:1", "1024Mi")));
        assert!(!covers(&live, &wanted("larder-node:2", "1Gi")));
        assert!(!covers(&live, &wanted("larder-node:1", "1000Mi")));
        assert!(!covers(&live, &json!({"spec": {"replicas": 2}})));
    }

    #[test]
    fn lists_without_a_key_are_compared_as_a_whole() {
        assert!(covers(&json!(["a", "b"]), &json!(["a", "b"])));
        assert!(!covers(&json!(["a", "b", "c"]), &json!(["a", "b"])));
        assert!(!covers(&json!(["b", "a"]), &json!(["a", "b"])));
        assert!(!covers(&json!([{"name": "a"}]), &json!([])));
        assert!(!covers(&json!([]), &json!([{"name": "a"}])));
    }

    #[test]
    fn text_that_is_not_a_quantity_must_be_equal() {
        assert!(!covers(&json!("1a"), &json!("1b")));
        assert!(covers(&json!("1000m"), &json!("1")));
        assert!(!covers(&json!("v1"), &json!("v1.0")));
    }
}
