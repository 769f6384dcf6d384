//! What `up` writes while it runs: one live line at the bottom of a terminal, everything else
//! above it. A log line and the live line never mix, because both go through here.

use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use crate::output::{note, print};

/// Interval of the live line on a terminal.
const TERMINAL: Duration = Duration::from_secs(1);
/// Interval of plain lines elsewhere.
const LOG: Duration = Duration::from_secs(10);

/// Clones share the live line.
#[derive(Clone)]
pub(super) struct Screen {
    live: Option<ProgressBar>,
    /// Standard output carries an envelope and nothing else.
    quiet: bool,
}

impl Screen {
    /// `quiet` sends everything to standard error.
    pub(super) fn new(quiet: bool) -> Self {
        let live = (!quiet && stdout().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{msg}").expect("a valid template");
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout()).with_style(style)
        });
        Self { live, quiet }
    }

    pub(super) fn interval(&self) -> Duration {
        if self.live.is_some() { TERMINAL } else { LOG }
    }

    /// Prints text above the live line.
    pub(super) fn print(&self, text: &str) -> anyhow::Result<()> {
        if self.quiet {
            self.note(text.trim_end());
            return Ok(());
        }
        self.above(|| print(text))
    }

    /// Prints a line to standard error.
    pub(super) fn note(&self, line: &str) {
        self.above(|| note(line));
    }

    /// Replaces the live line. Elsewhere than on a terminal it is printed, if it is `new`.
    pub(super) fn live(&self, line: String, new: bool) -> anyhow::Result<()> {
        match &self.live {
            Some(bar) => {
                bar.set_message(line);
                bar.tick();
                Ok(())
            }
            None if new => self.print(&(line + "\n")),
            None => Ok(()),
        }
    }

    /// Leaves the last live line where it is; later text goes below it.
    pub(super) fn end(&self) {
        if let Some(bar) = self.live.as_ref().filter(|bar| !bar.is_finished()) {
            bar.abandon();
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    fn above<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.live {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

/// Log lines go to standard error, above the live line.
impl<'a> MakeWriter<'a> for Screen {
    type Writer = LogLines<'a>;

    fn make_writer(&'a self) -> LogLines<'a> {
        LogLines { screen: self }
    }
}

pub(super) struct LogLines<'a> {
    screen: &'a Screen,
}

impl Write for LogLines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // One event is one write, so that no other line comes in between.
        self.screen.above(|| stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        stderr().flush()
    }
}
