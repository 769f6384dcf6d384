//! How answers are printed: for people, for programs, or as the bytes they are.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use larder_client::{Answer, Explanation};
use serde_json::{Map, Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Lines for people
    Text,
    /// One JSON object; bytes that are not UTF-8 as base64
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ValueFormat {
    /// The value and a line end
    Text,
    /// One JSON object; bytes that are not UTF-8 as base64
    Json,
    /// The value's bytes and nothing else
    Raw,
}

/// Writes to standard output. A reader that left (`larder … | head`) is no failure.
pub(crate) fn print(bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        ended => Ok(ended?),
    }
}

/// Writes one line to standard error.
#[allow(clippy::print_stderr, reason = "a command's own words go to standard error")]
pub(crate) fn note(line: &str) {
    eprintln!("{line}");
}

pub(crate) fn print_json(value: &Value) -> anyhow::Result<()> {
    print(format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// An answer as JSON, in the words of the HTTP gateway.
pub(crate) fn answer(group: &str, key: &str, answer: &Answer) -> Value {
    let mut object = Map::new();
    object.insert("group".into(), group.into());
    object.insert("key".into(), key.into());
    object.insert("found".into(), answer.value().is_some().into());
    if let Some(value) = answer.value() {
        let (text, encoding) = encoded(value);
        object.insert("value".into(), text.into());
        object.insert("encoding".into(), encoding.into());
        object.insert("stale".into(), answer.is_stale().into());
    }
    if let Some(explanation) = answer.explanation() {
        object.insert("explanation".into(), explained(explanation));
    }
    object.into()
}

/// Bytes as JSON holds them, and how.
pub(crate) fn encoded(bytes: &[u8]) -> (String, &'static str) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), "utf-8"),
        Err(_) => (STANDARD.encode(bytes), "base64"),
    }
}

/// A key on a line of its own kind: what is no plain text is escaped, so that a key cannot move
/// the cursor or look like another line.
pub(crate) fn key_text(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => key.escape_ascii().to_string(),
    }
}

fn explained(e: &Explanation) -> Value {
    json!({
        "source": source(e),
        "owner": e.owner,
        "servedBy": e.served_by,
        "ringRevision": e.ring_revision,
        "ageMs": e.age_ms,
        "remainingMs": e.remaining_ms,
        "version": e.version,
        "stale": e.stale,
        "policy": e.policy,
    })
}

/// `SOURCE_LOCAL` as `LOCAL`.
pub(crate) fn source(explanation: &Explanation) -> &'static str {
    let name = explanation.source().as_str_name();
    name.strip_prefix("SOURCE_").unwrap_or(name)
}

/// Milliseconds as people say them.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{} d {} h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

/// Bytes as people say them.
#[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut size = n as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A share in percent; `-` of nothing.
#[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".into() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

/// Columns as wide as their widest cell; numbers stay where they are put.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().map(|row| row[i].chars().count());
        cells.chain([head[i].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut text = line(head.to_vec());
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_said_as_people_say_them() {
        let durations = [999, 1_250, 61_000, 3_660_000, 90_000_000].map(duration);
        assert_eq!(durations, ["999 ms", "1.2 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([1023, 1536, 3 << 30].map(bytes), ["1023 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!([percent(1, 3), percent(0, 0)], ["33.3 %", "-"]);
    }

    #[test]
    fn bytes_that_are_no_text_become_base64() {
        let found =
            Answer::Found { value: vec![0xff, 0x00].into(), stale: false, explanation: None };
        let value = answer("g", "k", &found);
        assert_eq!((&value["value"], &value["encoding"]), (&"/wA=".into(), &"base64".into()));
    }

    #[test]
    fn tables_align_and_leave_no_trailing_blanks() {
        let rows = [vec!["shop-0".into(), "1".into()], vec!["x".into(), String::new()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME    N\nshop-0  1\nx\n");
    }
}
