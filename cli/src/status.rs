//! `larder status`: one screen about the whole cluster, from every member's own word.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use larder_client::{GroupStatus, MemberAnswer, StatusResponse};
use serde_json::{Value, json};

use crate::connect::{Endpoint, runtime};
use crate::output::{Format, bytes, duration, percent, print, print_json, table};

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// How to print it
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

impl Status {
    pub(crate) fn run(self, endpoint: &Endpoint) -> anyhow::Result<ExitCode> {
        let client = endpoint.cluster()?;
        let told = runtime()?.block_on(client.status())?;
        let answering = told.iter().filter(|m| m.answer.is_ok()).count();
        if answering == 0 {
            let error = told.into_iter().find_map(|m| m.answer.err());
            return Err(error.context("no member is known")?.into());
        }
        match self.output {
            Format::Json => print_json(&as_json(&told))?,
            Format::Text => print(as_text(&told))?,
        }
        Ok(if answering == told.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Sums over members.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) absent: u64,
    pub(crate) stale: u64,
    pub(crate) loads: u64,
    pub(crate) load_errors: u64,
    pub(crate) evictions: u64,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, group: &GroupStatus) {
        self.hits += group.hits;
        self.misses += group.misses;
        self.absent += group.absent;
        self.stale += group.stale;
        self.loads += group.loads;
        self.load_errors += group.load_errors;
        self.evictions += group.evictions;
        self.entries += group.entries;
        self.bytes += group.bytes;
    }

    /// Reads by applications.
    pub(crate) fn reads(&self) -> u64 {
        self.hits + self.stale + self.misses
    }

    /// Share of reads for which nobody waited for the origin; stale ones among them.
    pub(crate) fn hit_ratio(&self) -> String {
        percent(self.hits + self.stale, self.reads())
    }
}

fn as_text(told: &[MemberAnswer<StatusResponse>]) -> String {
    let rows: Vec<Vec<String>> = told.iter().map(member_row).collect();
    let head = ["MEMBER", "ADDRESS", "RING", "REGISTRY", "MEMORY", "UP"];
    let mut text = format!("{}\n\n{}", summary(told), table(&head, &rows));
    let groups = groups(told);
    if groups.is_empty() {
        return text + "\nno groups: apply a CacheGroup whose clusterRef names this cluster\n";
    }
    let rows: Vec<Vec<String>> =
        groups.iter().map(|(name, group)| group_row(name, group)).collect();
    let head = [
        "GROUP", "POLICY", "ENTRIES", "BYTES", "READS", "HIT", "STALE", "LOADS", "ERRORS",
        "EVICTED",
    ];
    text += &format!("\n{}", table(&head, &rows));
    text
}

fn summary(told: &[MemberAnswer<StatusResponse>]) -> String {
    let up: Vec<&StatusResponse> = told.iter().filter_map(|m| m.answer.as_ref().ok()).collect();
    let mut totals = Totals::default();
    up.iter().flat_map(|s| &s.groups).for_each(|g| totals.add(g));
    let revisions: Vec<u64> = up.iter().map(|s| s.ring_revision).collect();
    let (low, high) = (revisions.iter().min(), revisions.iter().max());
    let ring = match (low, high) {
        (Some(low), Some(high)) if low != high => format!("ring revisions {low} to {high}"),
        (_, Some(high)) => format!("ring revision {high}"),
        _ => "no ring".into(),
    };
    let used = up.iter().map(|s| s.used_bytes).sum();
    let capacity = up.iter().map(|s| s.capacity_bytes).sum();
    let oldest = up.iter().map(|s| s.uptime_seconds).max().unwrap_or(0);
    format!(
        "{}/{} members answer, {ring}, hit ratio {}, memory {}, up {}",
        up.len(),
        told.len(),
        totals.hit_ratio(),
        percent(used, capacity),
        duration(oldest * 1_000),
    )
}

fn member_row(member: &MemberAnswer<StatusResponse>) -> Vec<String> {
    match &member.answer {
        Ok(status) => vec![
            status.member.clone(),
            member.address.clone(),
            format!("{} of {}", status.ring_revision, status.ring_members),
            if status.registry_connected { "connected".into() } else { "away".into() },
            format!("{} of {}", bytes(status.used_bytes), bytes(status.capacity_bytes)),
            duration(status.uptime_seconds * 1_000),
        ],
        Err(error) => vec![
            "?".into(),
            member.address.clone(),
            "-".into(),
            "-".into(),
            "-".into(),
            format!("no answer ({})", error.kind()),
        ],
    }
}

/// Each group's policy and sums, by name.
fn groups(told: &[MemberAnswer<StatusResponse>]) -> BTreeMap<&str, (&str, Totals)> {
    let mut groups: BTreeMap<&str, (&str, Totals)> = BTreeMap::new();
    for group in told.iter().filter_map(|m| m.answer.as_ref().ok()).flat_map(|s| &s.groups) {
        let entry = groups.entry(&group.name).or_default();
        entry.0 = &group.policy;
        entry.1.add(group);
    }
    groups
}

fn group_row(name: &str, (policy, t): &(&str, Totals)) -> Vec<String> {
    vec![
        name.to_owned(),
        (*policy).to_owned(),
        t.entries.to_string(),
        bytes(t.bytes),
        t.reads().to_string(),
        t.hit_ratio(),
        t.stale.to_string(),
        t.loads.to_string(),
        t.load_errors.to_string(),
        t.evictions.to_string(),
    ]
}

fn as_json(told: &[MemberAnswer<StatusResponse>]) -> Value {
    let members: Vec<Value> = told
        .iter()
        .map(|member| match &member.answer {
            Ok(s) => json!({
                "address": member.address, "answers": true, "member": s.member,
                "version": s.version, "ringRevision": s.ring_revision,
                "ringMembers": s.ring_members, "registryConnected": s.registry_connected,
                "capacityBytes": s.capacity_bytes, "usedBytes": s.used_bytes,
                "uptimeSeconds": s.uptime_seconds,
            }),
            Err(error) => json!({
                "address": member.address, "answers": false, "error": error.kind(),
                "message": error.to_string(),
            }),
        })
        .collect();
    let groups: Vec<Value> = groups(told)
        .into_iter()
        .map(|(name, (policy, t))| {
            json!({
                "name": name, "policy": policy, "entries": t.entries, "bytes": t.bytes,
                "hits": t.hits, "misses": t.misses, "absent": t.absent, "stale": t.stale,
                "loads": t.loads, "loadErrors": t.load_errors, "evictions": t.evictions,
            })
        })
        .collect();
    json!({ "members": members, "groups": groups })
}

#[cfg(test)]
mod tests {
    use larder_client::{Error, Failure};

    use super::*;

    #[test]
    fn one_screen_tells_members_ring_hits_memory_and_age() {
        let group = |hits, misses| GroupStatus {
            name: "students".into(),
            policy: "Lru".into(),
            entries: 10,
            bytes: 2048,
            hits,
            misses,
            loads: misses,
            ..GroupStatus::default()
        };
        let up = |name: &str, revision, group| MemberAnswer {
            address: format!("{name}:7600"),
            answer: Ok(StatusResponse {
                member: name.into(),
                ring_revision: revision,
                ring_members: 3,
                registry_connected: true,
                capacity_bytes: 4096,
                used_bytes: 2048,
                uptime_seconds: 90,
                groups: vec![group],
                ..StatusResponse::default()
            }),
        };
        let last = Failure::Connection { address: "c:7600".into(), message: "refused".into() };
        let down = MemberAnswer {
            address: "c:7600".into(),
            answer: Err(Error::Unavailable { tries: 1, last }),
        };
        let told = [up("a", 7, group(90, 10)), up("b", 8, group(60, 40)), down];
        assert_eq!(
            as_text(&told),
            "\
2/3 members answer, ring revisions 7 to 8, hit ratio 75.0 %, memory 50.0 %, up 1 min 30 s

MEMBER  ADDRESS  RING    REGISTRY   MEMORY              UP
a       a:7600   7 of 3  connected  2.0 KiB of 4.0 KiB  1 min 30 s
b       b:7600   8 of 3  connected  2.0 KiB of 4.0 KiB  1 min 30 s
?       c:7600   -       -          -                   no answer (unavailable)

GROUP     POLICY  ENTRIES  BYTES    READS  HIT     STALE  LOADS  ERRORS  EVICTED
students  Lru     20       4.0 KiB  200    75.0 %  0      50     0       0
"
        );
        assert_eq!(as_json(&told)["members"][2]["error"], "unavailable");
    }
}
