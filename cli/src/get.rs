//! `larder get`: the value of one key, or a table of several.

use std::ffi::OsString;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::StreamExt as _;
use futures::stream;
use larder_client::{Answer, Client, Error};
use larder_proto::explanation::source_name;
use serde_json::{Value, json};

use crate::connect::{Connection, runtime};
use crate::exit::{self, BadConfiguration};
use crate::explanation::{answer_json, code, key_json, lines};
use crate::keys::{KeyFlags, Target};
use crate::output::{Report, Structured};
use crate::table::{left, table, terminal_width};
use crate::text::{duration, printable, shortened};

/// Explained reads in flight at one time.
const EXPLAINED_AT_ONCE: usize = 16;
/// Characters of a value in a table.
const VALUE_WIDTH: usize = 60;

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Name of the CacheGroup, alone or with the key
    #[arg(value_name = "GROUP[/KEY]")]
    group: OsString,

    /// The keys; several are read in one request
    #[arg(value_name = "KEY")]
    keys: Vec<OsString>,

    #[command(flatten)]
    key_flags: KeyFlags,

    /// Also say where each answer came from; for one key on standard error
    #[arg(long)]
    explain: bool,

    /// How to print it
    #[arg(long = "output", short = 'o', value_enum, default_value = "text", value_name = "FORMAT")]
    format: ValueFormat,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ValueFormat {
    /// One key: its value and a line end; several: a table
    Text,
    /// A table of key, value and result
    Table,
    /// The envelope that `larder --help` describes
    Json,
    /// The same envelope as YAML
    Yaml,
    /// One key's value, its bytes and nothing else
    Raw,
}

type Answers = Vec<Result<Answer, Error>>;

impl Get {
    pub(crate) fn structured(&self) -> Option<Structured> {
        match self.format {
            ValueFormat::Json => Some(Structured::Json),
            ValueFormat::Yaml => Some(Structured::Yaml),
            ValueFormat::Text | ValueFormat::Table | ValueFormat::Raw => None,
        }
    }

    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let target = self.key_flags.target(&self.group, &self.keys)?;
        if target.keys.is_empty() {
            return Err(BadConfiguration("name the keys: GROUP KEY... or GROUP/KEY".into()).into());
        }
        if self.format == ValueFormat::Raw && target.keys.len() > 1 {
            return Err(BadConfiguration("-o raw prints one value: name one key".into()).into());
        }
        let client = self.connection.client()?;
        let mut answers = runtime()?.block_on(read(&client, &target, self.explain));
        if answers.iter().all(Result::is_err) {
            return Err(answers.swap_remove(0).expect_err("all of them are errors").into());
        }
        let result = json!({ "group": target.group, "answers": as_json(&target.keys, &answers) });
        let report = match (&answers[..], self.format) {
            ([Ok(answer)], ValueFormat::Text | ValueFormat::Raw) => {
                self.value(&target, answer, result)
            }
            _ => {
                let text = as_table(&target.keys, &answers, self.explain, terminal_width());
                Report::new(text, result)
            }
        };
        Ok(report.code(codes(&answers)))
    }

    /// One value as it is.
    fn value(&self, target: &Target, answer: &Answer, result: Value) -> Report {
        let mut text = Vec::new();
        let mut notes = Vec::new();
        match answer.value() {
            Some(value) => text.extend_from_slice(value),
            None => notes.push(format!(
                "absent: the origin has no {}/{}",
                target.group,
                printable(&target.keys[0])
            )),
        }
        if answer.value().is_some() && self.format == ValueFormat::Text {
            text.push(b'\n');
        }
        notes.extend(answer.explanation().into_iter().flat_map(lines));
        Report::new(text, result).notes(notes)
    }
}

async fn read(client: &Client, target: &Target, explain: bool) -> Answers {
    let Target { group, keys } = target;
    match (&keys[..], explain) {
        ([key], false) => vec![client.get(group, key).await],
        (_, false) => client.get_many(group, keys).await,
        (_, true) => {
            let reads = keys.iter().map(|key| client.explain(group, key));
            stream::iter(reads).buffered(EXPLAINED_AT_ONCE).collect().await
        }
    }
}

fn codes(answers: &Answers) -> u8 {
    let one = |answer: &Result<Answer, Error>| answer.as_ref().map_or(exit::FAILURE, code);
    // A failure says more than an absent key.
    let order = |code: &u8| [exit::OK, exit::ABSENT, exit::FAILURE].iter().position(|c| c == code);
    answers.iter().map(one).max_by_key(order).unwrap_or(exit::OK)
}

fn as_json(keys: &[Bytes], answers: &Answers) -> Vec<Value> {
    let one = |(key, answer): (&Bytes, &Result<Answer, Error>)| match answer {
        Ok(answer) => answer_json(key, answer),
        Err(error) => {
            let mut object = key_json(key);
            let error = json!({ "kind": error.kind(), "message": error.to_string() });
            object.insert("error".into(), error);
            object.into()
        }
    };
    keys.iter().zip(answers).map(one).collect()
}

fn as_table(keys: &[Bytes], answers: &Answers, explain: bool, width: Option<u16>) -> String {
    let rows = keys.iter().zip(answers).map(|(key, answer)| {
        let mut row = vec![printable(key)];
        let (value, result) = match answer {
            Ok(Answer::Found { value, stale, .. }) => {
                (cell(value), if *stale { "stale".into() } else { "found".to_owned() })
            }
            Ok(Answer::Absent { .. }) => ("-".to_owned(), "absent".to_owned()),
            Err(error) => ("-".to_owned(), format!("failed: {error}")),
        };
        row.extend([value, result]);
        if explain {
            let explanation = answer.as_ref().ok().and_then(Answer::explanation);
            row.extend(explanation.map_or(["-", "-", "-"].map(str::to_owned), |e| {
                [source_name(e.source()).to_owned(), e.owner.clone(), duration(e.age_ms)]
            }));
        }
        row
    });
    let mut columns = vec![left("KEY"), left("VALUE"), left("RESULT")];
    if explain {
        columns.extend([left("SOURCE"), left("OWNER"), left("AGE")]);
    }
    table(&columns, rows.collect(), width)
}

fn cell(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(_) => shortened(&printable(value), VALUE_WIDTH),
        Err(_) => format!("<{} bytes>", value.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &'static [u8]) -> Result<Answer, Error> {
        Ok(Answer::Found { value: value.into(), stale: false, explanation: None })
    }

    #[test]
    fn a_failure_outranks_an_absent_key() {
        let absent = || Ok(Answer::Absent { explanation: None });
        let failed = || Err(Error::Busy { limit: 1 });
        assert_eq!(codes(&vec![found(b"1"), found(b"")]), 0);
        assert_eq!(codes(&vec![absent(), found(b"1")]), 4);
        assert_eq!(codes(&vec![failed(), absent()]), 1);
    }

    #[test]
    fn a_table_has_one_line_a_key() {
        let keys = ["a", "b", "c", "d"].map(Bytes::from);
        let answers = vec![
            found(b"1\n2"),
            found(b"\xff\xfe"),
            Ok(Answer::Absent { explanation: None }),
            Err(Error::Busy { limit: 1 }),
        ];
        assert_eq!(
            as_table(&keys, &answers, false, None),
            "\
KEY  VALUE      RESULT
a    1\\n2       found
b    <2 bytes>  found
c    -          absent
d    -          failed: 1 calls are in flight and as many are queued
"
        );
    }
}
