//! Pure: what became of the keys, as a table and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use larder_client::{Answer, Error, Source};
use serde_json::{Value, json};

use crate::table::{left, right, table};
use crate::text::thousands;

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Loaded,
    /// A member had it in memory.
    Cached,
    /// Past its TTL, and the origin gave no newer value.
    Stale,
    /// The origin has no such key.
    Absent,
    /// With the reason, as docs/reference/errors.md lists them, or the kind of a client's error.
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Tally {
    total: u64,
    fates: BTreeMap<Fate, u64>,
    /// Reads that were refused for overload and repeated.
    refused: u64,
}

impl Fate {
    pub(super) fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Absent { .. } => Self::Absent,
            Answer::Found { stale: true, .. } => Self::Stale,
            Answer::Found { explanation, .. } => {
                match explanation.as_ref().map(|explanation| explanation.source()) {
                    Some(Source::Loaded) => Self::Loaded,
                    _ => Self::Cached,
                }
            }
        }
    }

    pub(super) fn failed(error: &Error) -> Self {
        Self::Failed(error.reason().unwrap_or(error.kind()).to_owned())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::Cached => "cached",
            Self::Stale => "stale",
            Self::Absent => "absent",
            Self::Failed(_) => "failed",
        }
    }
}

impl Tally {
    pub(super) fn new(total: u64) -> Self {
        Self { total, fates: BTreeMap::new(), refused: 0 }
    }

    pub(super) fn record(&mut self, fate: Fate) {
        *self.fates.entry(fate).or_default() += 1;
    }

    pub(super) fn refused(&mut self) {
        self.refused += 1;
    }

    /// Whether every key was read and none failed.
    pub(super) fn is_complete(&self) -> bool {
        self.unread() == 0 && self.failed() == 0
    }

    /// How much is done, in thousandths, and a line about it.
    pub(super) fn progress(&self) -> (u64, String) {
        let read = self.read();
        let permille = (read * 1_000).checked_div(self.total).unwrap_or(1_000);
        let message = format!(
            "{} of {} keys, {} failed, {} refused and repeated",
            thousands(read),
            thousands(self.total),
            thousands(self.failed()),
            thousands(self.refused),
        );
        (permille, message)
    }

    pub(super) fn text(
        &self,
        group: &str,
        elapsed: Duration,
        interrupted: bool,
        width: Option<u16>,
    ) -> String {
        let cut = if interrupted { ", interrupted" } else { "" };
        let head = format!(
            "{group}: {} of {} keys read in {:.1} s{cut}; {} refused and repeated\n",
            thousands(self.read()),
            thousands(self.total),
            elapsed.as_secs_f64(),
            thousands(self.refused),
        );
        let rows = self.fates.iter().map(|(fate, keys)| {
            let reason = match fate {
                Fate::Failed(reason) => reason.clone(),
                _ => "-".to_owned(),
            };
            vec![fate.name().to_owned(), thousands(*keys), reason]
        });
        head + &table(&[left("RESULT"), right("KEYS"), left("REASON")], rows.collect(), width)
    }

    pub(super) fn json(&self, group: &str, elapsed: Duration, interrupted: bool) -> Value {
        let results = self.fates.iter().map(|(fate, keys)| match fate {
            Fate::Failed(reason) => {
                json!({ "result": fate.name(), "reason": reason, "keys": keys })
            }
            _ => json!({ "result": fate.name(), "keys": keys }),
        });
        json!({
            "group": group,
            "keys": self.total,
            "unreadKeys": self.unread(),
            "refusedReads": self.refused,
            "interrupted": interrupted,
            "seconds": elapsed.as_secs_f64(),
            "results": results.collect::<Vec<_>>(),
        })
    }

    fn read(&self) -> u64 {
        self.fates.values().sum()
    }

    fn unread(&self) -> u64 {
        self.total - self.read()
    }

    fn failed(&self) -> u64 {
        let failed = self.fates.iter().filter(|(fate, _)| matches!(fate, Fate::Failed(_)));
        failed.map(|(_, keys)| keys).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_keys_are_no_failure_but_unread_ones_are() {
        let mut tally = Tally::new(3);
        tally.record(Fate::Absent);
        tally.record(Fate::Loaded);
        assert!(!tally.is_complete(), "one is left");
        assert_eq!(tally.progress().0, 666);
        tally.record(Fate::Cached);
        assert!(tally.is_complete());
        let mut failed = Tally::new(1);
        failed.record(Fate::Failed("ORIGIN_SLOW".into()));
        failed.refused();
        assert!(!failed.is_complete());
        assert_eq!(
            failed.text("students", Duration::from_millis(1_250), true, None),
            "\
students: 1 of 1 keys read in 1.2 s, interrupted; 1 refused and repeated
RESULT  KEYS  REASON
failed     1  ORIGIN_SLOW
"
        );
        let json = failed.json("students", Duration::ZERO, false);
        assert_eq!(json["results"][0]["reason"], "ORIGIN_SLOW");
    }
}
