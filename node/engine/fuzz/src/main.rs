//! The fuzz target: bytes become operations, operations drive the cache beside a naive model.
#![no_main]

mod model;
mod operations;

libfuzzer_sys::fuzz_target!(|input: &[u8]| model::run(&operations::Input::read(input)));
