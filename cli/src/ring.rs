//! `larder ring`: the members, their shares of the keys, and one key's owner.

use std::ffi::OsString;

use bytes::Bytes;
use clap::Args;
use larder_client::{Ring, RingResponse};
use serde_json::{Value, json};

use crate::connect::{Connection, runtime};
use crate::exit::BadConfiguration;
use crate::explanation::key_json;
use crate::keys::KeyFlags;
use crate::output::{Output, Report};
use crate::table::{left, right, table, terminal_width};
use crate::text::{plural, printable, ratio};

#[derive(Debug, Args)]
pub(crate) struct ShowRing {
    /// With a key: show the owner of this key of this group
    #[arg(value_name = "GROUP[/KEY]")]
    group: Option<OsString>,

    /// The key
    #[arg(requires = "group")]
    key: Option<OsString>,

    #[command(flatten)]
    key_flags: KeyFlags,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    connection: Connection,
}

impl ShowRing {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let asked = match &self.group {
            Some(group) => Some(self.key_flags.one(group, self.key.as_ref())?),
            None if self.key_flags.is_empty() => None,
            None => return Err(BadConfiguration("a key needs its GROUP".into()).into()),
        };
        let client = self.connection.client()?;
        let response = runtime()?.block_on(client.ring())?;
        let ring = Ring::from_response(&response)?;
        Ok(match &asked {
            Some((group, key)) => owner_of(&response, &ring, group, key),
            None => {
                let text = as_text(&response, &ring, terminal_width());
                Report::new(text, as_json(&response, &ring))
            }
        })
    }
}

fn owner_of(response: &RingResponse, ring: &Ring, group: &str, key: &Bytes) -> Report {
    let owner = ring.owner(group, key).map(|member| member.name.as_str());
    let text = format!(
        "{group}/{} is owned by {} (ring revision {})\n",
        printable(key),
        owner.unwrap_or("no member"),
        response.revision
    );
    let mut result = as_json(response, ring);
    let mut asked = key_json(key);
    asked.insert("group".into(), group.into());
    result["asked"] = asked.into();
    result["owner"] = owner.into();
    Report::new(text, result)
}

fn as_text(response: &RingResponse, ring: &Ring, width: Option<u16>) -> String {
    let rows = ring.shares().into_iter().map(|(m, share)| {
        let zone = if m.zone.is_empty() { "-" } else { &m.zone };
        let (weight, address) = (m.weight.to_string(), m.grpc_address.clone());
        vec![m.name.clone(), ratio(share), weight, zone.into(), address]
    });
    let columns = [left("MEMBER"), right("KEYS"), right("WEIGHT"), left("ZONE"), left("ADDRESS")];
    format!(
        "ring revision {}, {}, placement {}\n{}",
        response.revision,
        plural(response.members.len(), "member"),
        placement(response),
        table(&columns, rows.collect(), width)
    )
}

/// The placement's name, and its settings where it has some.
fn placement(response: &RingResponse) -> String {
    let parsed: Option<Value> = serde_json::from_str(&response.placement_json).ok();
    let entry = parsed.as_ref().and_then(Value::as_object).and_then(|object| object.iter().next());
    match entry {
        Some((name, settings)) if settings.as_object().is_some_and(serde_json::Map::is_empty) => {
            name.clone()
        }
        Some((name, settings)) => format!("{name} {settings}"),
        None => response.placement_json.clone(),
    }
}

fn as_json(response: &RingResponse, ring: &Ring) -> Value {
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
    let placement: Value = serde_json::from_str(&response.placement_json).unwrap_or(Value::Null);
    json!({ "revision": response.revision, "placement": placement, "members": members })
}
