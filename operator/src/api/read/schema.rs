//! Owns the validation of a value against a CRD's schema, and the messages of its faults.

use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::{Value, json};

/// The faults of `value`: JSON pointers and messages.
pub(super) fn problems(schema: &Value, value: &Value) -> Vec<(String, String)> {
    let closed = closed(schema);
    let validator = jsonschema::validator_for(&closed).expect("a CRD's schema is a JSON schema");
    let mut found = Vec::new();
    for error in validator.iter_errors(value) {
        let at = error.instance_path().as_str().to_string();
        if let Kind::AdditionalProperties { unexpected } = error.kind() {
            for field in unexpected {
                let pointer = format!("{at}/{}", field.replace('~', "~0").replace('/', "~1"));
                found.push((pointer, unknown_field(&closed, &at, field)));
            }
        } else {
            found.push((at, message(&error)));
        }
    }
    found
}

/// `, did you mean …?` with the candidate most similar to `word`; empty when none is similar.
pub(super) fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> String {
    let similarity = |candidate: &'c str| {
        let similarity = strsim::normalized_damerau_levenshtein(
            &word.to_ascii_lowercase(),
            &candidate.to_ascii_lowercase(),
        );
        (similarity, candidate)
    };
    let best = candidates.into_iter().map(similarity).max_by(|a, b| a.0.total_cmp(&b.0));
    // Below a half the candidate is another word rather than the same word misspelt.
    match best {
        Some((similarity, candidate)) if similarity >= 0.5 => {
            format!(", did you mean {candidate:?}?")
        }
        _ => String::new(),
    }
}

/// `/spec/endpoints/0` as `spec.endpoints[0]`.
pub(super) fn dotted(pointer: &str) -> String {
    let mut path = String::new();
    for segment in pointer.split('/').skip(1) {
        let segment = segment.replace("~1", "/").replace("~0", "~");
        if segment.parse::<usize>().is_ok() {
            path.push_str(&format!("[{segment}]"));
        } else if path.is_empty() {
            path = segment;
        } else {
            path.push('.');
            path.push_str(&segment);
        }
    }
    path
}

/// `spec.endpoints[0]` as `/spec/endpoints/0`.
pub(super) fn pointer(dotted: &str) -> String {
    let parts = dotted.split(['.', '[']).map(|part| part.trim_end_matches(']'));
    parts.filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect()
}

/// The schema without room for unknown fields: an API server prunes them, here they are faults.
/// `metadata` gets the fields that users write, because a CRD leaves it open.
fn closed(schema: &Value) -> Value {
    let mut schema = schema.clone();
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    let text = json!({"type": "string"});
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    schema["properties"]["metadata"] = json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string",
                "maxLength": 253,
                "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
            },
            "namespace": text, "labels": texts, "annotations": texts,
            "finalizers": {"type": "array", "items": text},
            "ownerReferences": {"type": "array", "items": {"type": "object"}},
            "managedFields": {"type": "array", "items": {"type": "object"}},
            "uid": text, "resourceVersion": text, "creationTimestamp": text,
            "deletionTimestamp": text, "generateName": text, "selfLink": text,
            "generation": {"type": "integer"},
            "deletionGracePeriodSeconds": {"type": "integer"},
        },
    });
    close(&mut schema);
    schema
}

fn close(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    if fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        fields.insert("type".into(), json!(["integer", "string"]));
    }
    let open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    if fields.contains_key("properties") && !fields.contains_key("additionalProperties") && !open {
        fields.insert("additionalProperties".into(), Value::Bool(false));
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(close);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(inner) {
            close(inner);
        }
    }
}

/// The message for an unknown field, with the most likely field: one of the same object, or the one
/// of the same name elsewhere.
fn unknown_field(schema: &Value, parent: &str, field: &str) -> String {
    let siblings: Vec<&str> = at(schema, parent)
        .and_then(|schema| schema["properties"].as_object())
        .map(|properties| properties.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let mut hint = did_you_mean(field, siblings.iter().copied());
    if hint.is_empty() {
        let mut places = Vec::new();
        find(schema, field, "", &mut places);
        if let [place] = places.as_slice() {
            hint = format!(", did you mean {:?}?", dotted(place));
        }
    }
    if hint.is_empty() && !siblings.is_empty() {
        hint = format!(", must be one of {}", siblings.join(", "));
    }
    format!("unknown field{hint}")
}

/// The schema of the value at a JSON pointer.
fn at<'s>(schema: &'s Value, pointer: &str) -> Option<&'s Value> {
    pointer.split('/').skip(1).try_fold(schema, |schema, segment| {
        schema["properties"].get(segment).or_else(|| schema.get("items"))
    })
}

fn find(schema: &Value, field: &str, path: &str, places: &mut Vec<String>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        if name == field && !path.starts_with("/status") {
            places.push(path.clone());
        }
        find(inner, field, &path, places);
    }
}

/// The message for one fault.
fn message(error: &jsonschema::ValidationError<'_>) -> String {
    let value = error.instance();
    match error.kind() {
        Kind::Required { property } => format!("{} is required", plain(property)),
        Kind::Type { kind: TypeKind::Single(wanted) } => {
            format!("must be {}, is {value}", article(&wanted.to_string()))
        }
        Kind::Type { kind: TypeKind::Multiple(_) } => {
            format!("must be an integer or a string, is {value}")
        }
        Kind::Enum { options } => {
            let options: Vec<&str> =
                options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let hint = value.as_str().map(|word| did_you_mean(word, options.iter().copied()));
            let hint = hint.unwrap_or_default();
            format!("must be {}, is {value}{hint}", options.join(" or "))
        }
        Kind::Minimum { limit } => format!("must be at least {}, is {value}", plain(limit)),
        Kind::Maximum { limit } => format!("must be at most {}, is {value}", plain(limit)),
        Kind::MinItems { limit: 1 } | Kind::MinLength { limit: 1 } => "must not be empty".into(),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::Pattern { pattern } if pattern.contains("KMGTPE") => {
            format!("must be a quantity such as 512Mi, is {value}")
        }
        Kind::Pattern { pattern } => format!("must match {pattern}, is {value}"),
        _ => error.to_string(),
    }
}

/// A string without quotes, a number without an empty fraction.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            number.as_f64().map_or_else(|| number.to_string(), |number| number.to_string())
        }
        _ => value.to_string(),
    }
}

fn article(kind: &str) -> String {
    match kind {
        "integer" | "object" | "array" => format!("an {kind}"),
        _ => format!("a {kind}"),
    }
}
