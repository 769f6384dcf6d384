//! `larder hot`: the keys that are asked for most, with rates, summed over the members.

use std::collections::HashMap;
use std::process::ExitCode;

use clap::Args;
use larder_client::HotKey;
use serde_json::{Value, json};

use crate::connect::{Endpoint, runtime};
use crate::curve::answers;
use crate::output::{Format, key_text, note, print, print_json, table};

#[derive(Debug, Args)]
pub(crate) struct Hot {
    /// Name of the CacheGroup; every group, unless named
    group: Option<String>,

    /// Keys to show of each group
    #[arg(
        long,
        short = 'n',
        default_value = "10",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    limit: u32,

    /// How to print it
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

impl Hot {
    pub(crate) fn run(self, endpoint: &Endpoint) -> anyhow::Result<ExitCode> {
        let group = self.group.as_deref();
        // A key may be among the first of the cluster and not of any single member.
        let asked = (self.limit * 2).min(100);
        let client = endpoint.cluster()?;
        let told = runtime()?.block_on(client.hot_keys(group, asked))?;
        let members = told.len();
        let answers = answers(told)?;
        let all = answers.len() == members;
        if !all {
            note(&format!("{} of {members} members answered", answers.len()));
        }
        let keys = merged(answers.into_iter().flat_map(|answer| answer.keys), self.limit as usize);
        match self.output {
            Format::Json => print_json(&as_json(&keys))?,
            Format::Text => print(as_text(&keys))?,
        }
        Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Rates of one key add up over members; each group's hottest first, `limit` of them.
fn merged(told: impl Iterator<Item = HotKey>, limit: usize) -> Vec<HotKey> {
    let mut rates: HashMap<(String, tonic::codegen::Bytes), f64> = HashMap::new();
    for HotKey { group, key, reads_per_second } in told {
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

fn as_text(keys: &[HotKey]) -> String {
    if keys.is_empty() {
        return "no key was seen often enough: one read in 64 is looked at\n".into();
    }
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|hot| {
            let rate = format!("{:.1}/s", hot.reads_per_second);
            vec![hot.group.clone(), format!("{rate:>10}"), key_text(&hot.key)]
        })
        .collect();
    table(&["GROUP", "     READS", "KEY"], &rows)
}

fn as_json(keys: &[HotKey]) -> Value {
    let keys = keys.iter().map(|hot| {
        let (key, encoding) = crate::output::encoded(&hot.key);
        json!({
            "group": hot.group, "key": key, "encoding": encoding,
            "readsPerSecond": hot.reads_per_second,
        })
    });
    keys.collect::<Vec<_>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot(group: &str, key: &'static [u8], reads_per_second: f64) -> HotKey {
        HotKey { group: group.into(), key: key.into(), reads_per_second }
    }

    #[test]
    fn a_keys_rates_add_up_over_members_and_each_group_has_its_own_first() {
        let told = [
            hot("b", b"x", 1.0),
            hot("a", b"Tom", 100.0),
            hot("a", b"Ann", 150.0),
            hot("a", b"Tom", 100.0),
            hot("a", b"Sam", 1.0),
        ];
        let keys = merged(told.into_iter(), 2);
        assert_eq!(keys, [hot("a", b"Tom", 200.0), hot("a", b"Ann", 150.0), hot("b", b"x", 1.0)]);
    }

    #[test]
    fn keys_that_would_move_the_cursor_are_escaped() {
        let text = as_text(&[hot("a", b"x\x1b[2J\n\xff", 2.0)]);
        assert_eq!(text, "GROUP       READS  KEY\na           2.0/s  x\\x1b[2J\\n\\xff\n");
    }
}
