//! Pure: the JSON of a request for several keys, and of its response.
//!
//! ```json
//! {"keys": ["Tom", "Zoë", "nobody"]}
//! {"Tom": {"value": "630", "tags": ["course:7"]}, "Zoë": {"base64": "AP8="}, "nobody": null}
//! ```

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::origin::error::Error;
use crate::origin::keyed::KeyedLoads;
use crate::origin::loader::Loaded;

#[derive(Serialize)]
struct Request<'k> {
    keys: &'k [&'k str],
}

/// What the response says about a key. `null`, like no item, means absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    value: Option<String>,
    base64: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

/// The body of a request.
pub(super) fn encode(keys: &[&str]) -> Vec<u8> {
    serde_json::to_vec(&Request { keys }).expect("texts")
}

/// Adds the items of a response to `loads`. The error says what is wrong with the response. It
/// contains no value.
pub(super) fn decode(
    body: &[u8],
    max_value_bytes: usize,
    loads: &mut KeyedLoads<'_>,
) -> Result<(), String> {
    let items: HashMap<String, Option<Item>> =
        serde_json::from_slice(body).map_err(|error| describe(&error))?;
    for (key, item) in items {
        let Some(item) = item else { continue };
        let loaded = match item.value()? {
            value if value.len() > max_value_bytes => Err(Error::TooLarge { max: max_value_bytes }),
            value => Ok(Loaded::with_tags(value, item.tags.into_iter().map(Bytes::from).collect())),
        };
        if loads.add(key.as_bytes(), loaded).expect("no error of the call").is_break() {
            break;
        }
    }
    Ok(())
}

impl Item {
    fn value(&self) -> Result<Bytes, String> {
        match (&self.value, &self.base64) {
            (Some(text), None) => Ok(Bytes::copy_from_slice(text.as_bytes())),
            (None, Some(text)) => {
                let bytes = STANDARD.decode(text).map_err(|_| "an item's base64 is invalid")?;
                Ok(Bytes::from(bytes))
            }
            _ => Err("an item has not exactly one of value and base64".to_owned()),
        }
    }
}

/// Where the JSON is wrong. serde's text may quote a value.
fn describe(error: &serde_json::Error) -> String {
    let problem = match error.classify() {
        serde_json::error::Category::Data => {
            "not an object of items with value or base64, and tags"
        }
        _ => "not JSON",
    };
    format!("{problem} (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::loader::BatchedLoad;

    fn decoded(body: &str) -> Result<Vec<Loaded>, String> {
        let keys = ["a", "b", "c"].map(Bytes::from);
        let mut loads = KeyedLoads::new(&keys);
        decode(body.as_bytes(), 1_000, &mut loads)?;
        let done = |load| match load {
            BatchedLoad::Done(loaded) => loaded,
            other => panic!("{other:?}"),
        };
        Ok(loads.finish().into_iter().map(done).collect())
    }

    #[test]
    fn a_request_is_an_object_with_the_keys() {
        assert_eq!(encode(&["Tom", "Zoë\"\n"]), r#"{"keys":["Tom","Zoë\"\n"]}"#.as_bytes());
    }

    #[test]
    fn items_are_texts_or_bytes_and_may_have_tags() {
        let body = r#"{"c": {"base64": "AP8="}, "b": null, "a": {"value": "1", "tags": ["t"]}}"#;
        let tagged = Loaded::Tagged { value: "1".into(), tags: vec!["t".into()] };
        let raw = Loaded::Value(Bytes::from_static(b"\x00\xff"));
        assert_eq!(decoded(body), Ok(vec![tagged, Loaded::Absent, raw]));
        let empty = decoded(r#"{"a": {"value": ""}}"#).expect("valid");
        assert_eq!(empty, [Loaded::Value(Bytes::new()), Loaded::Absent, Loaded::Absent]);
    }

    #[test]
    fn an_unusable_response_is_refused_without_its_values() {
        for (body, problem) in [
            (r#"["secret"]"#, "not an object"),
            (r#"{"a": "secret"}"#, "not an object"),
            (r#"{"a": {"value": "1", "secret": "x"}}"#, "not an object"),
            (r#"{"a": {"tags": []}}"#, "not exactly one"),
            (r#"{"a": {"value": "secret", "base64": "AA=="}}"#, "not exactly one"),
            (r#"{"a": {"base64": "secret!"}}"#, "base64 is invalid"),
            ("<html>secret", "not JSON (line 1, column 1)"),
        ] {
            let text = decoded(body).expect_err(body);
            assert!(text.contains(problem) && !text.contains("secret"), "{body}: {text}");
        }
    }
}
