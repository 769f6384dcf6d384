//! Pure: the result of a load as tables and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::measure::{Fate, Measure};
use crate::table::{left, right, table};
use crate::text::{bytes, percent, thousands};

/// Percentiles that are reported, with their names.
const PERCENTILES: [(&str, f64); 4] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];

/// A load that is over.
pub(super) struct Finished<'m> {
    pub(super) measure: &'m Measure,
    pub(super) elapsed: Duration,
    /// It was ended by a signal.
    pub(super) interrupted: bool,
}

impl Finished<'_> {
    pub(super) fn text(&self, head: &str, width: Option<u16>) -> String {
        let cut = if self.interrupted { ", interrupted" } else { "" };
        let seconds = self.elapsed.as_secs_f64();
        format!(
            "{head}: {seconds:.1} s{cut}\n\n{}\n{}\n{}",
            self.rates(width),
            self.latencies(width),
            self.fates(width)
        )
    }

    fn rates(&self, width: Option<u16>) -> String {
        let m = self.measure;
        let mean = m.value_bytes.checked_div(m.values).map_or("-".to_owned(), bytes);
        let row = vec![
            thousands(m.requests),
            format!("{}/s", thousands(self.per_second(m.requests))),
            thousands(m.failed_requests),
            thousands(m.keys()),
            format!("{}/s", thousands(self.per_second(m.keys()))),
            format!("{}/s", bytes(self.per_second(m.value_bytes))),
            mean,
        ];
        let columns =
            ["REQUESTS", "RATE", "FAILED", "KEYS", "KEY RATE", "VALUE RATE", "MEAN VALUE"];
        table(&columns.map(right), vec![row], width)
    }

    fn latencies(&self, width: Option<u16>) -> String {
        let latency = &self.measure.latency;
        let row = match latency.is_empty() {
            true => vec!["-".to_owned(); PERCENTILES.len() + 1],
            false => {
                let of = |(_, percentile)| millis(latency.value_at_percentile(percentile));
                PERCENTILES.into_iter().map(of).chain([millis(latency.max())]).collect()
            }
        };
        let columns: Vec<_> =
            PERCENTILES.iter().map(|(name, _)| *name).chain(["max"]).map(right).collect();
        format!("LATENCY of a request, ms\n{}", table(&columns, vec![row], width))
    }

    fn fates(&self, width: Option<u16>) -> String {
        let keys = self.measure.keys();
        let rows = self.measure.fates.iter().map(|(fate, count)| {
            let name = match fate {
                Fate::Hit(source) => format!("hit {source}"),
                Fate::Loaded => "loaded from the origin".into(),
                Fate::Stale => "stale".into(),
                Fate::Absent => "absent".into(),
                Fate::Failed(reason) => format!("failed {reason}"),
            };
            vec![name, thousands(*count), percent(*count, keys)]
        });
        table(&[left("RESULT"), right("KEYS"), right("SHARE")], rows.collect(), width)
    }

    pub(super) fn json(&self) -> Value {
        let m = self.measure;
        let micros = |percentile| match m.latency.is_empty() {
            true => Value::Null,
            false => m.latency.value_at_percentile(percentile).into(),
        };
        let results = m.fates.iter().map(|(fate, keys)| match fate {
            Fate::Hit(source) => json!({ "result": "hit", "source": source, "keys": keys }),
            Fate::Loaded => json!({ "result": "loaded", "keys": keys }),
            Fate::Stale => json!({ "result": "stale", "keys": keys }),
            Fate::Absent => json!({ "result": "absent", "keys": keys }),
            Fate::Failed(reason) => json!({ "result": "failed", "reason": reason, "keys": keys }),
        });
        json!({
            "interrupted": self.interrupted,
            "seconds": self.elapsed.as_secs_f64(),
            "requests": m.requests,
            "failedRequests": m.failed_requests,
            "requestsPerSecond": self.per_second(m.requests),
            "keys": m.keys(),
            "keysPerSecond": self.per_second(m.keys()),
            "values": m.values,
            "valueBytes": m.value_bytes,
            "latencyMicroseconds": {
                "p50": micros(50.0), "p90": micros(90.0), "p99": micros(99.0),
                "p99.9": micros(99.9), "max": micros(100.0),
            },
            "results": results.collect::<Vec<_>>(),
        })
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a rate for people"
    )]
    fn per_second(&self, count: u64) -> u64 {
        (count as f64 / self.elapsed.as_secs_f64().max(0.001)).round() as u64
    }
}

/// Microseconds in milliseconds, with more decimals the shorter it is.
#[allow(clippy::cast_precision_loss, reason = "three decimals at most are shown")]
pub(super) fn millis(micros: u64) -> String {
    let millis = micros as f64 / 1_000.0;
    match micros {
        0..10_000 => format!("{millis:.3}"),
        10_000..1_000_000 => format!("{millis:.1}"),
        _ => format!("{millis:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_show_rates_latencies_and_results() {
        let mut measure = Measure::new();
        for micros in [200, 200, 200, 12_000] {
            measure.latency.saturating_record(micros);
        }
        (measure.requests, measure.values, measure.value_bytes) = (4, 3, 3_072);
        measure.fates.extend([(Fate::Hit("LOCAL"), 3), (Fate::Failed("ORIGIN_SLOW".into()), 1)]);
        let elapsed = Duration::from_secs(2);
        let result = Finished { measure: &measure, elapsed, interrupted: true };
        assert_eq!(
            result.text("students", None),
            "\
students: 2.0 s, interrupted

REQUESTS  RATE  FAILED  KEYS  KEY RATE  VALUE RATE  MEAN VALUE
       4   2/s       0     4       2/s   1.5 KiB/s     1.0 KiB

LATENCY of a request, ms
  p50   p90   p99  p99.9   max
0.200  12.0  12.0   12.0  12.0

RESULT              KEYS   SHARE
hit LOCAL              3  75.0 %
failed ORIGIN_SLOW     1  25.0 %
"
        );
        assert_eq!(result.json()["results"][1]["reason"], "ORIGIN_SLOW");
        let empty = Measure::new();
        let nothing = Finished { measure: &empty, elapsed: Duration::ZERO, interrupted: true };
        assert!(nothing.text("g", None).contains("\n  -    -    -      -    -\n"));
        assert_eq!(nothing.json()["latencyMicroseconds"]["p50"], Value::Null);
    }

    #[test]
    fn short_latencies_have_more_decimals() {
        assert_eq!([87, 12_345, 1_234_567].map(millis), ["0.087", "12.3", "1235"]);
    }
}
