//! The `larder` command, also `kubectl larder` when it is called `kubectl-larder`.

mod args;
mod check;
mod connect;
mod curve;
mod exit;
mod explain;
mod get;
mod hot;
mod invalidate;
#[cfg(test)]
mod metrics_page;
mod output;
mod ring;
mod status;
mod up;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os()) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match args.run() {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}
