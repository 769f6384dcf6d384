//! Owns parsed YAML that keeps the line of every key.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, Spanned};

use super::problem::Problem;

/// A YAML value.
#[derive(Debug)]
pub(super) enum Node {
    /// A string, a number, a boolean or null.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// Fields with the lines of their keys, in the order of the text.
    Map(Vec<(String, u64, Node)>),
}

/// Every document of `text` that is not empty.
pub(super) fn documents(text: &str) -> Result<Vec<Node>, Problem> {
    let nodes: Vec<Node> = serde_saphyr::from_multiple(text).map_err(|error| {
        let error = error.without_snippet();
        Problem {
            line: error.location().map(|location| location.line()).filter(|line| *line > 0),
            object: String::new(),
            field: String::new(),
            message: message(error),
        }
    })?;
    Ok(nodes.into_iter().filter(|node| !matches!(node, Node::Scalar(Value::Null))).collect())
}

/// What a user can act on; the parser's own text where that says it.
fn message(error: &Error) -> String {
    match error {
        Error::AliasError { error, .. } if breach(error).is_some() => {
            // Only an alias repeats what the file holds once.
            let limit = breach(error).map(limit).unwrap_or_default();
            format!("too many YAML aliases: the expanded document would exceed {limit}")
        }
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "too many YAML aliases: the expanded document would exceed the YAML reader's limits"
                .into()
        }
        other => match breach(other) {
            Some(
                BudgetBreach::Aliases { aliases } | BudgetBreach::AliasAnchorRatio { aliases, .. },
            ) => {
                format!("too many YAML aliases: {aliases}")
            }
            Some(other) => format!("the file exceeds {}", limit(other)),
            None => other.to_string().lines().next().unwrap_or("not YAML").to_string(),
        },
    }
}

/// The limit of the YAML reader that an error is about.
fn breach(error: &Error) -> Option<&BudgetBreach> {
    match error {
        Error::Budget { breach, .. } => Some(breach),
        Error::AliasError { error, .. } | Error::WithSnippet { error, .. } => breach(error),
        _ => None,
    }
}

/// The counts of a breach are one above the limit.
fn limit(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Events { events } => format!("{} elements", events.saturating_sub(1)),
        BudgetBreach::Nodes { nodes } => format!("{} values", nodes.saturating_sub(1)),
        BudgetBreach::Depth { depth } => format!("a depth of {}", depth.saturating_sub(1)),
        _ => "the YAML reader's limits".into(),
    }
}

impl Node {
    /// The value as JSON. A field without a value is left out, as by the API server.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Scalar(value) => value.clone(),
            Self::List(items) => items.iter().map(Self::to_value).collect(),
            Self::Map(fields) => {
                let present =
                    fields.iter().filter(|(_, _, n)| !matches!(n, Self::Scalar(Value::Null)));
                let pairs = present.map(|(key, _, node)| (key.clone(), node.to_value()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }

    /// The line of the key nearest to a JSON pointer, from 1.
    pub(super) fn line(&self, pointer: &str) -> Option<u64> {
        let mut node = self;
        let mut nearest = self.first_line();
        for segment in pointer.split('/').skip(1) {
            let segment = segment.replace("~1", "/").replace("~0", "~");
            let next = match node {
                Self::Map(fields) => {
                    let Some((_, line, child)) = fields.iter().find(|(key, _, _)| *key == segment)
                    else {
                        break;
                    };
                    nearest = Some(*line);
                    Some(child)
                }
                Self::List(items) => segment.parse().ok().and_then(|at: usize| items.get(at)),
                Self::Scalar(_) => None,
            };
            let Some(child) = next else { break };
            node = child;
            if let Self::Map(_) = node
                && let Some(line) = node.first_line()
                && nearest.is_none()
            {
                nearest = Some(line);
            }
        }
        nearest.filter(|line| *line > 0)
    }

    fn first_line(&self) -> Option<u64> {
        match self {
            Self::Map(fields) => fields.first().map(|(_, line, _)| *line),
            Self::List(_) | Self::Scalar(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Node::Scalar(number.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = fields.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            map.push((key.value, line, fields.next_value()?));
        }
        Ok(Node::Map(map))
    }
}
