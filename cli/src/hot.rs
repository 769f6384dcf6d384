//! `larder hot`: the keys that are asked for most, with rates, summed over the members.

use std::collections::HashMap;

use clap::Args;
use larder_client::HotKey;
use serde_json::{Value, json};

use crate::connect::{Connection, runtime};
use crate::explanation::key_json;
use crate::members::Answers;
use crate::output::{Output, Report};
use crate::table::{left, right, table, terminal_width};
use crate::text::printable;

/// Most keys of a group that a member reports.
pub(crate) const MAX_KEYS: u32 = 100;

#[derive(Debug, Args)]
pub(crate) struct Hot {
    /// Name of the CacheGroup; every group when left out
    group: Option<String>,

    /// Keys to show of each group
    #[arg(
        long,
        short = 'n',
        default_value = "10",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_KEYS))
    )]
    limit: u32,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    connection: Connection,
}

impl Hot {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        // A key may be among the first of the cluster and not of any single member.
        let asked = (self.limit * 2).min(MAX_KEYS);
        let client = self.connection.cluster()?;
        let all = runtime()?.block_on(client.hot_keys(self.group.as_deref(), asked))?;
        let all = Answers::of(all)?;
        let (code, note) = (all.code(), all.note());
        let keys = all.answers.into_iter().flat_map(|answer| answer.keys);
        let keys = merged(keys, self.limit as usize);
        let result = json!({ "keys": as_json(&keys) });
        Ok(Report::new(as_text(&keys, terminal_width()), result).code(code).notes(note))
    }
}

/// Adds the rates of a key over members; each group's hottest first, `limit` of them.
pub(crate) fn merged(keys: impl Iterator<Item = HotKey>, limit: usize) -> Vec<HotKey> {
    let mut rates: HashMap<(String, bytes::Bytes), f64> = HashMap::new();
    for HotKey { group, key, reads_per_second } in keys {
        *rates.entry((group, key)).or_default() += reads_per_second;
    }
    let named = |((group, key), reads_per_second)| HotKey { group, key, reads_per_second };
    let mut keys: Vec<HotKey> = rates.into_iter().map(named).collect();
    let hotter = |a: &HotKey, b: &HotKey| b.reads_per_second.total_cmp(&a.reads_per_second);
    keys.sort_by(|a, b| a.group.cmp(&b.group).then(hotter(a, b)).then(a.key.cmp(&b.key)));
    let mut shown: HashMap<String, usize> = HashMap::new();
    keys.retain(|key| {
        let count = shown.entry(key.group.clone()).or_default();
        *count += 1;
        *count <= limit
    });
    keys
}

fn as_text(keys: &[HotKey], width: Option<u16>) -> String {
    if keys.is_empty() {
        return "no hot key yet: members sample one read in 64\n".into();
    }
    let rows = keys.iter().map(|hot| {
        vec![hot.group.clone(), format!("{:.1}/s", hot.reads_per_second), printable(&hot.key)]
    });
    table(&[left("GROUP"), right("READS"), left("KEY")], rows.collect(), width)
}

fn as_json(keys: &[HotKey]) -> Vec<Value> {
    let one = |hot: &HotKey| {
        let mut object = key_json(&hot.key);
        object.insert("group".into(), hot.group.as_str().into());
        object.insert("readsPerSecond".into(), json!(hot.reads_per_second));
        object.into()
    };
    keys.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot(group: &str, key: &'static [u8], reads_per_second: f64) -> HotKey {
        HotKey { group: group.into(), key: key.into(), reads_per_second }
    }

    #[test]
    fn rates_of_a_key_add_up_over_members_and_each_group_has_its_own_first() {
        let reported = [
            hot("b", b"x", 1.0),
            hot("a", b"Tom", 100.0),
            hot("a", b"Ann", 150.0),
            hot("a", b"Tom", 100.0),
            hot("a", b"Sam", 1.0),
        ];
        let keys = merged(reported.into_iter(), 2);
        assert_eq!(keys, [hot("a", b"Tom", 200.0), hot("a", b"Ann", 150.0), hot("b", b"x", 1.0)]);
    }

    #[test]
    fn keys_that_would_move_the_cursor_are_escaped() {
        let text = as_text(&[hot("a", b"x\x1b[2J\n\xff", 2.0)], None);
        assert_eq!(text, "GROUP  READS  KEY\na      2.0/s  x\\x1b[2J\\n\\xff\n");
    }
}
