//! `larder ring`: the members, their shares of the keys, and one key's owner.

use std::process::ExitCode;

use clap::Args;
use larder_client::{Ring, RingResponse};
use serde_json::{Value, json};

use crate::connect::{Endpoint, runtime};
use crate::exit::BadConfiguration;
use crate::output::{Format, print, print_json, table};

#[derive(Debug, Args)]
pub(crate) struct ShowRing {
    /// With KEY: tell who owns this key of this group
    group: Option<String>,

    /// The key
    #[arg(requires = "group")]
    key: Option<String>,

    /// How to print it
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

impl ShowRing {
    pub(crate) fn run(self, endpoint: &Endpoint) -> anyhow::Result<ExitCode> {
        let asked = match (&self.group, &self.key) {
            (Some(group), Some(key)) => Some((group.as_str(), key.as_str())),
            (None, _) => None,
            (Some(_), None) => return Err(BadConfiguration("name GROUP and KEY".into()).into()),
        };
        let client = endpoint.client()?;
        let told = runtime()?.block_on(client.ring())?;
        let ring = Ring::from_response(&told)?;
        match self.output {
            Format::Json => print_json(&as_json(&told, &ring, asked))?,
            Format::Text => print(as_text(&told, &ring, asked))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn owner<'r>(ring: &'r Ring, asked: Option<(&str, &str)>) -> Option<&'r str> {
    let (group, key) = asked?;
    Some(ring.owner(group, key.as_bytes())?.name.as_str())
}

fn as_text(told: &RingResponse, ring: &Ring, asked: Option<(&str, &str)>) -> String {
    if let (Some((group, key)), Some(owner)) = (asked, owner(ring, asked)) {
        return format!("{group}/{key} is owned by {owner} (ring revision {})\n", told.revision);
    }
    let rows: Vec<Vec<String>> = ring
        .shares()
        .into_iter()
        .map(|(m, share)| {
            let zone = if m.zone.is_empty() { "-" } else { &m.zone };
            let share = format!("{:.1} %", share * 100.0);
            vec![m.name.clone(), share, m.weight.to_string(), zone.into(), m.grpc_address.clone()]
        })
        .collect();
    let head = ["MEMBER", "KEYS", "WEIGHT", "ZONE", "ADDRESS"];
    format!(
        "ring revision {}, {} members, placement {}\n{}",
        told.revision,
        told.members.len(),
        placement(told),
        table(&head, &rows)
    )
}

/// The placement's name, and its settings where it has some.
fn placement(told: &RingResponse) -> String {
    let parsed: Option<Value> = serde_json::from_str(&told.placement_json).ok();
    let entry = parsed.as_ref().and_then(Value::as_object).and_then(|object| object.iter().next());
    match entry {
        Some((name, settings)) if settings.as_object().is_some_and(serde_json::Map::is_empty) => {
            name.clone()
        }
        Some((name, settings)) => format!("{name} {settings}"),
        None => told.placement_json.clone(),
    }
}

fn as_json(told: &RingResponse, ring: &Ring, asked: Option<(&str, &str)>) -> Value {
    let members: Vec<Value> = ring
        .shares()
        .into_iter()
        .map(|(m, share)| {
            json!({
                "name": m.name, "share": share, "weight": m.weight, "zone": m.zone,
                "grpcAddress": m.grpc_address, "httpAddress": m.http_address,
                "peerAddress": m.peer_address,
            })
        })
        .collect();
    let placement: Value = serde_json::from_str(&told.placement_json).unwrap_or(Value::Null);
    let mut object = json!({
        "revision": told.revision, "placement": placement, "members": members,
    });
    if let Some(owner) = owner(ring, asked) {
        object["owner"] = owner.into();
    }
    object
}
