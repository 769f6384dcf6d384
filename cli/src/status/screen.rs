//! Pure: the screen of `larder status`, and the same as JSON. The screen fits a terminal of 80
//! columns as long as names are short.

use std::collections::BTreeMap;

use larder_client::{MemberAnswer, StatusResponse};
use serde_json::{Value, json};

use crate::table::{left, right, table};
use crate::text::{age, bytes, count, percent};
use crate::totals::Totals;

/// The whole screen.
pub(super) fn as_text(
    members: &[MemberAnswer<StatusResponse>],
    rate: Option<f64>,
    width: Option<u16>,
) -> String {
    let columns = [
        left("MEMBER"),
        left("ADDRESS"),
        // Revision of the ring as the member sees it, and members in it.
        right("REVISION"),
        right("RING"),
        left("REGISTRY"),
        right("USED"),
        right("LIMIT"),
        right("UP"),
    ];
    let rows = members.iter().filter_map(member_row).collect();
    let mut text = format!("{}\n\n{}", summary(members, rate), table(&columns, rows, width));
    for member in members {
        if let Err(error) = &member.answer {
            text += &format!("{} does not answer ({})\n", member.address, error.kind());
        }
    }
    let groups = groups(members);
    if groups.is_empty() {
        return text + "\nno groups: apply a CacheGroup whose clusterRef names this cluster\n";
    }
    let columns = [
        left("GROUP"),
        left("POLICY"),
        right("KEYS"),
        right("BYTES"),
        right("READS"),
        right("HIT"),
        right("STALE"),
        right("LOADS"),
        right("FAILED"),
        right("EVICTED"),
    ];
    let rows = groups.iter().map(|(name, (policy, totals))| group_row(name, policy, totals));
    text += &format!("\n{}", table(&columns, rows.collect(), width));
    text
}

/// Reads of all groups at all members.
pub(super) fn reads(members: &[MemberAnswer<StatusResponse>]) -> u64 {
    sums(members).reads()
}

fn sums(members: &[MemberAnswer<StatusResponse>]) -> Totals {
    let up = members.iter().filter_map(|m| m.answer.as_ref().ok());
    Totals::of(up.flat_map(|s| &s.groups))
}

fn summary(members: &[MemberAnswer<StatusResponse>], rate: Option<f64>) -> String {
    let up: Vec<&StatusResponse> = members.iter().filter_map(|m| m.answer.as_ref().ok()).collect();
    let revisions = || up.iter().map(|s| s.ring_revision);
    let ring = match (revisions().min(), revisions().max()) {
        (Some(low), Some(high)) if low != high => format!("ring revisions {low} to {high}"),
        (_, Some(high)) => format!("ring revision {high}"),
        _ => "no ring".into(),
    };
    let used = up.iter().map(|s| s.used_bytes).sum();
    let capacity = up.iter().map(|s| s.capacity_bytes).sum();
    let oldest = up.iter().map(|s| s.uptime_seconds).max().unwrap_or(0);
    let totals = sums(members);
    let rate = rate.map(|rate| format!(", {rate:.0} reads/s")).unwrap_or_default();
    format!(
        "{} of {} members answer, {ring}, up {}\nhit ratio {}, memory {}{rate}",
        up.len(),
        members.len(),
        age(oldest),
        totals.hit_ratio(),
        percent(used, capacity),
    )
}

/// A percentage without its blank: 80 columns are few.
fn narrow(percent: &str) -> String {
    percent.replace(' ', "")
}

/// A member that answers; one that does not has a line below the table.
fn member_row(member: &MemberAnswer<StatusResponse>) -> Option<Vec<String>> {
    let status = member.answer.as_ref().ok()?;
    Some(vec![
        status.member.clone(),
        member.address.clone(),
        status.ring_revision.to_string(),
        status.ring_members.to_string(),
        if status.registry_connected { "ok".into() } else { "lost".into() },
        narrow(&percent(status.used_bytes, status.capacity_bytes)),
        bytes(status.capacity_bytes),
        age(status.uptime_seconds),
    ])
}

fn group_row(name: &str, policy: &str, t: &Totals) -> Vec<String> {
    vec![
        name.to_owned(),
        policy.to_owned(),
        count(t.entries),
        bytes(t.bytes),
        count(t.reads()),
        narrow(&t.hit_ratio()),
        count(t.stale),
        count(t.loads),
        count(t.load_errors),
        count(t.evictions),
    ]
}

/// Each group's policy and sums, by name.
fn groups(members: &[MemberAnswer<StatusResponse>]) -> BTreeMap<&str, (&str, Totals)> {
    let mut groups: BTreeMap<&str, (&str, Totals)> = BTreeMap::new();
    for group in members.iter().filter_map(|m| m.answer.as_ref().ok()).flat_map(|s| &s.groups) {
        let entry = groups.entry(&group.name).or_default();
        entry.0 = &group.policy;
        entry.1.add(group);
    }
    groups
}

/// The same as JSON, with exact numbers.
pub(super) fn as_json(members: &[MemberAnswer<StatusResponse>]) -> Value {
    let groups: Vec<Value> = groups(members)
        .into_iter()
        .map(|(name, (policy, t))| {
            json!({
                "name": name, "policy": policy, "entries": t.entries, "bytes": t.bytes,
                "hits": t.hits, "misses": t.misses, "absent": t.absent, "stale": t.stale,
                "loads": t.loads, "loadErrors": t.load_errors, "evictions": t.evictions,
            })
        })
        .collect();
    let members: Vec<Value> = members
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
    json!({ "members": members, "groups": groups })
}

#[cfg(test)]
mod tests {
    use larder_client::{Error, Failure, GroupStatus};

    use super::*;

    fn up(name: &str, ring_revision: u64, group: GroupStatus) -> MemberAnswer<StatusResponse> {
        MemberAnswer {
            address: format!("{name}:7600"),
            answer: Ok(StatusResponse {
                member: name.into(),
                ring_revision,
                ring_members: 3,
                registry_connected: true,
                capacity_bytes: 4096,
                used_bytes: 2048,
                uptime_seconds: 90,
                groups: vec![group],
                ..StatusResponse::default()
            }),
        }
    }

    fn group(hits: u64, misses: u64) -> GroupStatus {
        GroupStatus {
            name: "students".into(),
            policy: "TinyLfu".into(),
            entries: 10,
            bytes: 2048,
            hits,
            misses,
            loads: misses,
            ..GroupStatus::default()
        }
    }

    #[test]
    fn one_screen_shows_members_ring_hits_memory_and_age() {
        let last = Failure::Connection { address: "c:7600".into(), message: "refused".into() };
        let down = MemberAnswer {
            address: "c:7600".into(),
            answer: Err(Error::Unavailable { tries: 1, last }),
        };
        let members = [up("a", 7, group(90, 10)), up("b", 8, group(60, 40)), down];
        assert_eq!(
            as_text(&members, Some(12.0), None),
            "\
2 of 3 members answer, ring revisions 7 to 8, up 1m30s
hit ratio 75.0 %, memory 50.0 %, 12 reads/s

MEMBER  ADDRESS  REVISION  RING  REGISTRY   USED    LIMIT     UP
a       a:7600          7     3  ok        50.0%  4.0 KiB  1m30s
b       b:7600          8     3  ok        50.0%  4.0 KiB  1m30s
c:7600 does not answer (unavailable)

GROUP     POLICY   KEYS    BYTES  READS    HIT  STALE  LOADS  FAILED  EVICTED
students  TinyLfu    20  4.0 KiB    200  75.0%      0     50       0        0
"
        );
        assert_eq!(as_json(&members)["members"][2]["error"], "unavailable");
    }

    #[test]
    fn a_busy_cluster_fits_80_columns() {
        let busy = GroupStatus {
            entries: 1_234_567,
            bytes: 1_000 << 20,
            stale: 1_000_000,
            load_errors: 123_456,
            evictions: 9_999_999,
            ..group(99_000_000, 1_000_000)
        };
        let mut member = up("shop-0", 123_456, busy);
        member.address = "10.244.100.10:7600".into();
        if let Ok(status) = &mut member.answer {
            (status.capacity_bytes, status.uptime_seconds) = (1_000 << 20, 1_000_000);
        }
        let text = as_text(&[member], None, Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("\nshop-0  10.244.100.10:7600 "), "{text}");
        assert!(text.contains("  EVICTED\nstudents  TinyLfu "), "{text}");
    }
}
