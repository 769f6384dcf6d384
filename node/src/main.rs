//! A cache member or a sidecar as a process.

use std::process::ExitCode;

fn main() -> ExitCode {
    larder_node::program::run(std::env::args_os())
}
