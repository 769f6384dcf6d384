//! Services that a test needs and that `cargo xtask test` starts.

use std::io::Write;

/// The value of `variable`. If it is not set, prints that the test does not run.
pub(super) fn service(variable: &str) -> Option<String> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        assert!(std::env::var_os("CI").is_none(), "{variable} is not set, and CI runs every test");
        // Not `eprintln!`, whose output the test harness hides if the test passes.
        let line = format!("NOT RUN: {test}: {variable} is not set (cargo xtask test sets it)\n");
        std::io::stderr().write_all(line.as_bytes()).expect("standard error");
    }
    value
}
