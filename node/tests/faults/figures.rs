//! What a test measured, as one row of a table.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

/// Prints a row, and appends it to the file that `LARDER_FAULTS_FIGURES` names.
pub(super) fn record(promise: &str, fault: &str, figures: &[(&str, String)]) {
    let figures: Vec<String> =
        figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let row = format!("| {promise} | {fault} | {} |\n", figures.join(", "));
    note(&row);
    if let Some(path) = std::env::var_os("LARDER_FAULTS_FIGURES") {
        let file = File::options().create(true).append(true).open(path);
        file.and_then(|mut file| file.write_all(row.as_bytes())).expect("the file of figures");
    }
}

/// Prints a line at once. Not `eprintln!`, whose output the test harness hides if the test passes.
pub(super) fn note(line: &str) {
    std::io::stderr().write_all(line.as_bytes()).expect("standard error");
}

pub(super) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

pub(super) fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
