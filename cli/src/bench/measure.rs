//! What a load has measured so far.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use larder_client::{Explanation, Source};
use larder_proto::explanation::source_name;
use larder_proto::v1::{GetResponse, KeyResult, Outcome};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Longest latency that is recorded as it is, microseconds: ten minutes.
const MAX_MICROS: u64 = 600_000_000;

/// What became of one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    /// Answered from the memory of a member, with the source's name.
    Hit(&'static str),
    Loaded,
    Stale,
    Absent,
    /// With the reason, as docs/reference/errors.md lists them.
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Measure {
    /// Microseconds a request.
    pub(super) latency: Histogram<u64>,
    pub(super) requests: u64,
    /// Requests that failed as a whole.
    pub(super) failed_requests: u64,
    /// Keys by what became of them.
    pub(super) fates: BTreeMap<Fate, u64>,
    pub(super) values: u64,
    pub(super) value_bytes: u64,
}

impl Measure {
    pub(super) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, MAX_MICROS, 3).expect("valid bounds");
        Self {
            latency,
            requests: 0,
            failed_requests: 0,
            fates: BTreeMap::new(),
            values: 0,
            value_bytes: 0,
        }
    }

    pub(super) fn record(&mut self, took: Duration, answers: &Answers) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(MAX_MICROS);
        self.latency.saturating_record(micros);
        self.requests += 1;
        match answers {
            Answers::One(answer) => self.key(one(answer), answer.value.len()),
            Answers::Many(results) => {
                for result in results {
                    self.key(of_batch(result), result.value.len());
                }
            }
            Answers::Failed { status, keys } => {
                let fate = failed(status);
                self.failed_requests += u64::from(fate != Fate::Absent);
                *self.fates.entry(fate).or_default() += keys;
            }
        }
    }

    fn key(&mut self, fate: Fate, bytes: usize) {
        if !matches!(fate, Fate::Absent | Fate::Failed(_)) {
            self.values += 1;
            self.value_bytes += bytes as u64;
        }
        *self.fates.entry(fate).or_default() += 1;
    }

    pub(super) fn keys(&self) -> u64 {
        self.fates.values().sum()
    }

    /// Keys without an answer.
    pub(super) fn failed_keys(&self) -> u64 {
        let failed = self.fates.iter().filter(|(fate, _)| matches!(fate, Fate::Failed(_)));
        failed.map(|(_, keys)| keys).sum()
    }
}

/// How one request ended.
pub(super) enum Answers {
    One(GetResponse),
    Many(Vec<KeyResult>),
    Failed { status: Status, keys: u64 },
}

fn one(answer: &GetResponse) -> Fate {
    found(answer.explanation.as_ref())
}

fn of_batch(result: &KeyResult) -> Fate {
    match result.outcome() {
        Outcome::Found => found(result.explanation.as_ref()),
        Outcome::Absent => Fate::Absent,
        Outcome::Error | Outcome::Unspecified => {
            let reason = match result.reason.as_str() {
                "" => format!("{:?}", Code::from(result.code)),
                reason => reason.to_owned(),
            };
            Fate::Failed(reason)
        }
    }
}

fn found(explanation: Option<&Explanation>) -> Fate {
    match explanation.map(Explanation::source).unwrap_or_default() {
        Source::Loaded => Fate::Loaded,
        Source::Stale => Fate::Stale,
        Source::Absent => Fate::Absent,
        hit @ (Source::Local | Source::Owner | Source::Hot | Source::Unspecified) => {
            Fate::Hit(source_name(hit))
        }
    }
}

fn failed(status: &Status) -> Fate {
    if status.code() == Code::NotFound {
        return Fate::Absent;
    }
    let reason = status.get_details_error_info().map(|info| info.reason);
    Fate::Failed(reason.unwrap_or_else(|| format!("{:?}", status.code())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_by_what_became_of_them() {
        let mut measure = Measure::new();
        let explained =
            |source: Source| Explanation { source: source.into(), ..Default::default() };
        let hit = GetResponse {
            value: vec![0; 10].into(),
            explanation: Some(explained(Source::Hot)),
            ..GetResponse::default()
        };
        measure.record(Duration::from_micros(100), &Answers::One(hit));
        let result = |outcome: Outcome, reason: &str, source| KeyResult {
            outcome: outcome.into(),
            reason: reason.into(),
            explanation: Some(explained(source)),
            ..KeyResult::default()
        };
        let many = vec![
            result(Outcome::Found, "", Source::Loaded),
            result(Outcome::Found, "", Source::Stale),
            result(Outcome::Absent, "", Source::Absent),
            result(Outcome::Error, "ORIGIN_BUSY", Source::Unspecified),
        ];
        measure.record(Duration::from_micros(300), &Answers::Many(many));
        let gone = Answers::Failed { status: Status::not_found("no such key"), keys: 1 };
        measure.record(Duration::from_micros(200), &gone);
        let away = Answers::Failed { status: Status::unavailable("gone"), keys: 2 };
        measure.record(Duration::from_secs(3_600), &away);

        let fates: Vec<_> = measure.fates.iter().map(|(fate, n)| (fate.clone(), *n)).collect();
        assert_eq!(
            fates,
            [
                (Fate::Hit("HOT"), 1),
                (Fate::Loaded, 1),
                (Fate::Stale, 1),
                (Fate::Absent, 2),
                (Fate::Failed("ORIGIN_BUSY".into()), 1),
                (Fate::Failed("Unavailable".into()), 2),
            ]
        );
        assert_eq!((measure.requests, measure.failed_requests), (4, 1));
        assert_eq!((measure.keys(), measure.failed_keys()), (8, 3));
        assert_eq!((measure.values, measure.value_bytes), (3, 10));
        assert!(measure.latency.max() >= MAX_MICROS, "an hour counts as the longest latency");
    }
}
