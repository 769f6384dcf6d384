//! The results of hit-ratio runs and their Markdown. Pure.

use std::fmt::Write as _;

use larder_engine::PolicyKind;

use crate::subjects;

/// Name of the row of the offline optimum.
pub(crate) const OPTIMUM: &str = "Bélády";
/// Percentage points by which the default may be behind the best library.
const TOLERATED: f64 = 0.5;

/// One cache size.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    /// In percent of the stream's distinct keys.
    pub(crate) percent: f64,
    /// In entries.
    pub(crate) slots: usize,
}

/// Hit ratios for one stream.
pub(crate) struct Grid {
    pub(crate) name: String,
    pub(crate) requests: usize,
    /// Number of distinct keys.
    pub(crate) distinct: usize,
    /// The columns.
    pub(crate) sizes: Vec<Size>,
    /// A name and a percentage for each size. The optimum is the last row.
    pub(crate) rows: Vec<(&'static str, Vec<f64>)>,
}

impl Grid {
    /// Default minus best library in percentage points, for each size.
    fn leads(&self) -> Vec<f64> {
        let rivals = || self.rows.iter().filter(|(name, _)| subjects::is_rival(name));
        let best = |at: usize| rivals().map(|(_, cells)| cells[at]).fold(0.0, f64::max);
        let default = self.rows.iter().find(|(name, _)| is_default(name));
        let default = default.map_or(&[][..], |(_, cells)| cells);
        default.iter().enumerate().map(|(at, cell)| cell - best(at)).collect()
    }
}

/// True for the engine's default policy.
pub(crate) fn is_default(name: &str) -> bool {
    name == PolicyKind::default().name()
}

/// True if a lead misses the target. Compared as printed, in hundredths.
fn misses(lead: f64) -> bool {
    (lead * 100.0).round() < -TOLERATED * 100.0
}

/// One line per stream: the lead of the default over the best library at each size.
pub(crate) fn summary(grids: &[Grid]) -> String {
    let mut text = String::new();
    let mut percents: Vec<f64> =
        grids.iter().flat_map(|grid| grid.sizes.iter().map(|size| size.percent)).collect();
    percents.sort_by(f64::total_cmp);
    percents.dedup();
    let heads: Vec<String> = percents.iter().map(|percent| format!("{percent} %")).collect();
    let _ = writeln!(text, "| {} − best library | {} |", default_name(), heads.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(percents.len()));
    let (mut missed, mut all) = (0, 0);
    for grid in grids {
        let leads = grid.leads();
        let cell = |percent: &f64| {
            let at = grid.sizes.iter().position(|size| size.percent == *percent);
            at.map_or(String::new(), |at| marked(leads[at]))
        };
        let cells: Vec<String> = percents.iter().map(cell).collect();
        let _ = writeln!(text, "| {} | {} |", grid.name, cells.join(" | "));
        missed += leads.iter().filter(|&&lead| misses(lead)).count();
        all += leads.len();
    }
    let verdict = if missed == 0 { "met" } else { "NOT met" };
    let _ = writeln!(
        text,
        "\nPoints; bold with ▼: more than {TOLERATED} behind. Bar (the default is the best or \
         within {TOLERATED} points of the best library on every stream and size): {verdict}, {missed} of \
         {all} cells miss it.",
    );
    text
}

fn default_name() -> &'static str {
    PolicyKind::default().name()
}

fn marked(lead: f64) -> String {
    if misses(lead) { format!("**{lead:+.2} ▼**") } else { format!("{lead:+.2}") }
}

/// The full table of one stream, with its plot if there is one.
pub(crate) fn full(grid: &Grid, pictured: bool) -> String {
    let Grid { name, requests, distinct, sizes, rows } = grid;
    let mut text = format!("## {name}\n\n{requests} requests for {distinct} keys; hit %.\n\n");
    if pictured {
        let _ = writeln!(text, "![Hit ratio over cache size, {name}](hit-ratio/{name}.svg)\n");
    }
    let head = |size: &Size| format!("{} % = {}", size.percent, size.slots);
    let heads: Vec<String> = sizes.iter().map(head).collect();
    let _ = writeln!(text, "| slots | {} |", heads.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(sizes.len()));
    let leads = grid.leads();
    for (name, cells) in rows {
        let cell = |(cell, &lead): (&f64, &f64)| {
            let miss = is_default(name) && misses(lead);
            if miss { format!("**{cell:.2} ▼**") } else { format!("{cell:.2}") }
        };
        let cells: Vec<String> = cells.iter().zip(&leads).map(cell).collect();
        let role = if is_default(name) { " (default)" } else { "" };
        let _ = writeln!(text, "| {name}{role} | {} |", cells.join(" | "));
    }
    let leads: Vec<String> = leads.into_iter().map(marked).collect();
    let _ = writeln!(text, "| default − best library | {} |", leads.join(" | "));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(default: f64, library: f64) -> Grid {
        let rows = vec![
            (PolicyKind::default().name(), vec![default]),
            ("moka", vec![1.0]),
            ("quick_cache", vec![library]),
            (OPTIMUM, vec![90.0]),
        ];
        let sizes = vec![Size { percent: 1.0, slots: 8 }];
        Grid { name: "s".into(), requests: 9, distinct: 3, sizes, rows }
    }

    #[test]
    fn a_lag_of_half_a_point_meets_the_target_and_more_is_marked() {
        assert!(summary(&[grid(49.5, 50.0)]).contains(": met, 0 of 1"));
        let text = summary(&[grid(49.5, 50.0), grid(49.49, 50.0)]);
        assert!(text.contains("NOT met, 1 of 2") && text.contains("**-0.51 ▼**"), "{text}");
        let text = full(&grid(40.0, 50.0), false);
        assert!(text.contains("| **40.00 ▼** |") && text.contains("| 50.00 |"), "{text}");
    }

    #[test]
    fn the_optimum_does_not_count_as_a_library() {
        assert_eq!(grid(50.0, 50.0).leads(), [0.0]);
    }
}
