//! Bars in a terminal: blocks as wide as it is, or plain ASCII of a fixed width when piped.

use crate::table::terminal_width;

/// Width of piped output.
const PLAIN_COLUMNS: usize = 80;
/// Narrower bars show nothing; in wider ones the ends are hard to compare.
const COLUMNS: std::ops::RangeInclusive<usize> = 48..=120;
/// Columns after a bar, for a mark such as ` now` or ` +12.3`.
const MARK: usize = 7;

/// Nothing, and one to seven eighths of a block.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// How bars are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bars {
    columns: usize,
    blocks: bool,
}

impl Bars {
    /// Blocks on a terminal, ASCII when standard output is piped.
    pub(super) fn for_stdout() -> Self {
        match terminal_width() {
            Some(columns) => {
                let columns = usize::from(columns).clamp(*COLUMNS.start(), *COLUMNS.end());
                Self { columns, blocks: true }
            }
            None => Self::plain(PLAIN_COLUMNS),
        }
    }

    /// ASCII.
    pub(super) fn plain(columns: usize) -> Self {
        Self { columns, blocks: false }
    }

    /// A label, a figure, a bar for `ratio` (0 to 1), a mark.
    pub(super) fn line(self, label: &str, figure: &str, ratio: f64, mark: &str) -> String {
        let head = format!("{label} {figure:>7}  ");
        let room = self.columns.saturating_sub(head.chars().count() + MARK);
        format!("{head}{}{mark}\n", self.bar(ratio, room))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a bar has fewer than a thousand eighths"
    )]
    fn bar(self, ratio: f64, room: usize) -> String {
        let eighths = (ratio.clamp(0.0, 1.0) * room as f64 * 8.0).round() as usize;
        if self.blocks {
            "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
        } else {
            "#".repeat((eighths + 4) / 8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bar_fills_the_width_but_for_its_mark() {
        let bars = Bars { columns: 60, blocks: true };
        let line = bars.line("×1", "100.0 %", 1.0, " now");
        assert_eq!(line.trim_end().chars().count(), 60 - MARK + " now".len());
        assert_eq!(bars.bar(0.5, 5), "██▌");
        assert_eq!(Bars::plain(60).bar(0.5, 5), "###");
    }
}
