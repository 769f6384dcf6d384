//! Amounts and keys as text for people.

/// Milliseconds as a sentence has them: `1 min 30 s`.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        3_600_000..86_400_000 => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{} d {} h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

/// Seconds as a narrow column has them, in kubectl's form: `1m30s`.
pub(crate) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Bytes in binary units with one decimal.
#[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut size = n as f64 / 1024.0;
    let mut unit = 0;
    // Three digits at most before the point, so that a column stays narrow.
    while size >= 999.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A count in five characters: exact up to five digits, then `123k`, `1.2M`, `123M`.
#[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn count(n: u64) -> String {
    match n {
        0..100_000 => n.to_string(),
        100_000..1_000_000 => format!("{}k", n / 1_000),
        1_000_000..100_000_000 => format!("{:.1}M", n as f64 / 1e6),
        100_000_000..1_000_000_000 => format!("{}M", n / 1_000_000),
        _ => format!("{:.1}G", n as f64 / 1e9),
    }
}

/// A share in percent; `-` when the whole is zero.
#[allow(clippy::cast_precision_loss, reason = "one decimal is shown")]
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".into() } else { ratio(part as f64 / whole as f64) }
}

/// A ratio from 0 to 1 in percent.
pub(crate) fn ratio(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

/// `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 key`, `2 keys`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// Bytes as one line of text. Anything but printable UTF-8 is escaped, so that a key or a value
/// can neither move the cursor nor look like another line.
pub(crate) fn printable(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// At most `limit` characters, the last one `…` when some were cut.
pub(crate) fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_one_unit_or_two() {
        let durations = [999, 1_250, 61_000, 3_660_000, 90_000_000].map(duration);
        assert_eq!(durations, ["999 ms", "1.2 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([9, 61, 3_660, 90_000].map(age), ["9s", "1m1s", "1h1m", "1d1h"]);
        assert_eq!([1023, 1536, 3 << 30].map(bytes), ["1023 B", "1.5 KiB", "3.0 GiB"]);
        assert_eq!([999, 1_000].map(|mib| bytes(mib << 20)), ["999.0 MiB", "1.0 GiB"]);
        assert_eq!([percent(1, 3), percent(0, 0)], ["33.3 %", "-"]);
        assert_eq!([99_999, 123_456, 1_250_000].map(count), ["99999", "123k", "1.2M"]);
        assert_eq!([99_900_000, 123_456_789].map(count), ["99.9M", "123M"]);
        assert_eq!([7, 999, 1_000, 1_234_567].map(thousands), ["7", "999", "1,000", "1,234,567"]);
        assert_eq!([plural(1, "key"), plural(0, "key")], ["1 key", "0 keys"]);
    }

    #[test]
    fn text_that_would_move_the_cursor_is_escaped_and_long_text_is_cut() {
        assert_eq!(printable(b"x\x1b[2J\n\xff"), r"x\x1b[2J\n\xff");
        assert_eq!(printable("Zoë".as_bytes()), "Zoë");
        assert_eq!([shortened("Zoë", 3), shortened("Zoës", 3)], ["Zoë", "Zo…"]);
    }
}
