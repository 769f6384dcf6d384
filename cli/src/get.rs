//! `larder get`: one key's value.

use std::process::ExitCode;

use clap::Args;
use larder_client::Answer;

use crate::connect::{Endpoint, runtime};
use crate::exit::ABSENT;
use crate::explain;
use crate::output::{self, ValueFormat, note, print, print_json};

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Name of the CacheGroup
    group: String,

    /// The key
    key: String,

    /// Also tell where the answer came from; text goes to standard error
    #[arg(long)]
    explain: bool,

    /// How to print the value
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: ValueFormat,
}

impl Get {
    pub(crate) fn run(self, endpoint: &Endpoint) -> anyhow::Result<ExitCode> {
        let client = endpoint.client()?;
        let (group, key) = (self.group.as_str(), self.key.as_str());
        let answer = runtime()?.block_on(async {
            if self.explain {
                client.explain(group, key).await
            } else {
                client.get(group, key).await
            }
        })?;
        if self.output == ValueFormat::Json {
            print_json(&output::answer(group, key, &answer))?;
        } else {
            self.print(&answer)?;
        }
        Ok(code(&answer))
    }

    fn print(&self, answer: &Answer) -> anyhow::Result<()> {
        match answer.value() {
            Some(value) => print(value)?,
            None => note(&format!("absent: the origin has no {}/{}", self.group, self.key)),
        }
        if answer.value().is_some() && self.output == ValueFormat::Text {
            print("\n")?;
        }
        if let Some(explanation) = answer.explanation() {
            explain::lines(explanation).iter().for_each(|line| note(line));
        }
        Ok(())
    }
}

pub(crate) fn code(answer: &Answer) -> ExitCode {
    match answer {
        Answer::Found { .. } => ExitCode::SUCCESS,
        Answer::Absent { .. } => ExitCode::from(ABSENT),
    }
}
