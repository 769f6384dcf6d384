//! `larder explain`: where a key lives and why its answer is what it is, in words.

use std::process::ExitCode;

use clap::Args;
use larder_client::{Answer, Explanation, Source};

use crate::connect::{Endpoint, runtime};
use crate::get::code;
use crate::output::{self, Format, duration, print, print_json};

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// Name of the CacheGroup
    group: String,

    /// The key
    key: String,

    /// How to print it
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Format,
}

impl Explain {
    pub(crate) fn run(self, endpoint: &Endpoint) -> anyhow::Result<ExitCode> {
        let client = endpoint.client()?;
        let answer = runtime()?.block_on(client.explain(&self.group, &self.key))?;
        match self.output {
            Format::Json => print_json(&output::answer(&self.group, &self.key, &answer))?,
            Format::Text => print(self.text(&answer))?,
        }
        Ok(code(&answer))
    }

    fn text(&self, answer: &Answer) -> String {
        let what = match answer {
            Answer::Found { value, stale, .. } => {
                let state = if *stale { "found, stale" } else { "found, fresh" };
                format!("{state}, {} bytes", value.len())
            }
            Answer::Absent { .. } => "absent".to_owned(),
        };
        let mut text = format!("{}/{}: {what}\n", self.group, self.key);
        match answer.explanation() {
            Some(explanation) => {
                for line in lines(explanation) {
                    text += &format!("  {line}\n");
                }
            }
            None => text += "  the member gave no explanation\n",
        }
        text
    }
}

/// The explanation as sentences.
pub(crate) fn lines(e: &Explanation) -> Vec<String> {
    let mut lines = vec![format!("{} (source {})", came_from(e), output::source(e))];
    lines.push(if e.served_by == e.owner {
        format!("{} was asked and owns the key (ring revision {})", e.served_by, e.ring_revision)
    } else {
        format!(
            "{} was asked; {} owns the key (ring revision {})",
            e.served_by, e.owner, e.ring_revision
        )
    });
    lines.push(age(e));
    if !e.policy.is_empty() {
        lines.push(format!("its group evicts by {}", e.policy));
    }
    lines
}

fn came_from(e: &Explanation) -> &'static str {
    match e.source() {
        Source::Local => "the owner had it in memory",
        Source::Owner => "the owner had it in memory and was asked over the network",
        Source::Hot => "the asked member had a copy of another member's entry",
        Source::Loaded => "nobody had it, so the origin was asked for this read",
        Source::Stale => {
            "it is past its time to live and the group's freshness allows it, \
                          while a reload runs or the origin fails"
        }
        Source::Absent => "the origin says there is no such key",
        Source::Unspecified => "the member does not say where it came from",
    }
}

fn age(e: &Explanation) -> String {
    let loaded = match e.version {
        0 => format!("loaded {} ago", duration(e.age_ms)),
        version => format!("loaded {} ago as load {version} of its owner", duration(e.age_ms)),
    };
    if e.stale || e.remaining_ms == 0 {
        format!("{loaded}; no life left")
    } else {
        format!("{loaded}; {} of life left", duration(e.remaining_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_answer_says_why_it_was_allowed() {
        let lines = lines(&Explanation {
            source: Source::Stale.into(),
            owner: "shop-1".into(),
            served_by: "shop-0".into(),
            ring_revision: 7,
            age_ms: 61_000,
            stale: true,
            policy: "Lru".into(),
            ..Explanation::default()
        });
        assert_eq!(
            lines,
            [
                "it is past its time to live and the group's freshness allows it, while a reload \
                 runs or the origin fails (source STALE)",
                "shop-0 was asked; shop-1 owns the key (ring revision 7)",
                "loaded 1 min 1 s ago; no life left",
                "its group evicts by Lru",
            ]
        );
    }
}
