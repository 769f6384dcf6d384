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
            message: message(error, text),
        }
    })?;
    Ok(nodes.into_iter().filter(|node| !matches!(node, Node::Scalar(Value::Null))).collect())
}

fn message(error: &Error, text: &str) -> String {
    match error {
        Error::Budget { breach, .. } => too_large(breach, text),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => too_many_aliases("what a file may hold"),
        other => other.to_string().lines().next().unwrap_or("not YAML").to_string(),
    }
}

/// A breach of the reader's limits. A value takes two bytes of text at least; more values than that
/// come from aliases.
fn too_large(breach: &BudgetBreach, text: &str) -> String {
    let (count, what) = match breach {
        BudgetBreach::Events { events } => (*events, "elements"),
        BudgetBreach::Nodes { nodes } => (*nodes, "values"),
        BudgetBreach::ScalarBytes { total_scalar_bytes } => (*total_scalar_bytes, "bytes"),
        BudgetBreach::Aliases { aliases } | BudgetBreach::AliasAnchorRatio { aliases, .. } => {
            return format!("too many YAML aliases: {aliases}");
        }
        BudgetBreach::Depth { depth } => return format!("nested too deeply: {depth} levels"),
        other => return format!("larger than a file may be: {other:?}"),
    };
    if count.saturating_mul(2) > text.len() {
        too_many_aliases(&format!("{} {what}", count.saturating_sub(1)))
    } else {
        format!("larger than a file may be: more than {} {what}", count.saturating_sub(1))
    }
}

fn too_many_aliases(limit: &str) -> String {
    format!("too many YAML aliases: the expanded document would exceed {limit}")
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
