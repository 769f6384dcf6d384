//! Runs the protoc of `protoc-bin-vendored` with the given arguments, for machines without a protoc.

use std::os::unix::process::CommandExt;
use std::process::Command;

fn main() -> std::io::Result<()> {
    let protoc = protoc_bin_vendored::protoc_bin_path()
        .map_err(|e| std::io::Error::other(format!("no protoc for this machine: {e}")))?;
    let include = protoc_bin_vendored::include_path()
        .map_err(|e| std::io::Error::other(format!("no protobuf includes: {e}")))?;
    Err(Command::new(protoc).args(std::env::args_os().skip(1)).arg("-I").arg(include).exec())
}
