//! A progress bar on standard error, if that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::interval;

/// Interval between two redraws.
const INTERVAL: Duration = Duration::from_millis(250);

/// Draws a bar until it is dropped. `state` returns how much is done, in thousandths, and the text
/// next to the bar.
pub(crate) async fn show(state: impl Fn() -> (u64, String)) -> ! {
    let bar = ProgressBar::new(1_000);
    let style = ProgressStyle::with_template("{wide_bar} {msg}").expect("a valid template");
    bar.set_style(style);
    let bar = ClearedAtEnd(bar);
    let mut ticks = interval(INTERVAL);
    loop {
        ticks.tick().await;
        let (permille, message) = state();
        bar.0.set_position(permille);
        bar.0.set_message(message);
    }
}

/// A bar that leaves nothing behind.
struct ClearedAtEnd(ProgressBar);

impl Drop for ClearedAtEnd {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
