//! The fuzz target: decodes bytes into operations and runs them on the cache and on a naive model.
#![no_main]

mod model;
mod operations;

libfuzzer_sys::fuzz_target!(|input: &[u8]| model::run(&operations::Input::read(input)));
