//! The `larder` command, also `kubectl larder` when it is called `kubectl-larder`.

mod args;
mod bench;
mod check;
mod completions;
mod connect;
mod curve;
mod exit;
mod explain;
mod explanation;
mod get;
mod hot;
mod input;
mod invalidate;
mod keys;
mod man;
mod members;
#[cfg(test)]
mod metrics_page;
mod output;
mod progress;
mod ring;
mod signals;
mod status;
mod table;
mod text;
mod totals;
mod up;
mod warm;

use std::process::ExitCode;

fn main() -> ExitCode {
    match args::parse(std::env::args_os()) {
        Ok(args) => args.run(),
        Err(code) => code,
    }
}
