//! `larder explain`: where a key lives and why its answer is what it is.

use std::ffi::OsString;

use clap::Args;
use larder_client::Answer;

use crate::connect::{Connection, runtime};
use crate::explanation::{answer_json, code, lines};
use crate::keys::KeyFlags;
use crate::output::{Output, Report};
use crate::text::printable;

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Name of the CacheGroup, alone or with the key
    #[arg(value_name = "GROUP[/KEY]")]
    group: OsString,

    /// The key
    key: Option<OsString>,

    #[command(flatten)]
    key_flags: KeyFlags,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    connection: Connection,
}

impl Explain {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let (group, key) = self.key_flags.one(&self.group, self.key.as_ref())?;
        let client = self.connection.client()?;
        let answer = runtime()?.block_on(client.explain(&group, &key))?;
        let mut result = answer_json(&key, &answer);
        result["group"] = group.as_str().into();
        Ok(Report::new(text(&group, &key, &answer), result).code(code(&answer)))
    }
}

fn text(group: &str, key: &[u8], answer: &Answer) -> String {
    let what = match answer {
        Answer::Found { value, stale, .. } => {
            let state = if *stale { "found, stale" } else { "found, fresh" };
            format!("{state}, {} bytes", value.len())
        }
        Answer::Absent { .. } => "absent".to_owned(),
    };
    let lines = match answer.explanation() {
        Some(explanation) => lines(explanation),
        None => vec!["the member gave no explanation".to_owned()],
    };
    let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
    format!("{group}/{}: {what}\n{lines}", printable(key))
}
