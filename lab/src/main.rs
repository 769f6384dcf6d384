//! The laboratory: whole clusters of the members' real code under faults, in simulated time.
//!
//! A seed stands for a world ([`plan`]). Each [`world`] runs on one thread ([`scenario`]), its clients
//! make traffic ([`traffic`]), and the [`judge`] checks what they saw. Only the transport between
//! members ([`network`]), the registry's network ([`registry`]) and the [`origin`] are simulated.
//! Equal seeds give equal runs.
#![expect(clippy::print_stdout, reason = "it is a command-line tool")]

#[cfg(not(tokio_unstable))]
compile_error!(
    "needs the flags of .cargo/config.toml, which the variable RUSTFLAGS replaces: unset it, or add \
     `--cfg tokio_unstable` to it"
);

mod fault;
mod judge;
mod key;
mod member;
mod network;
mod origin;
mod panics;
mod plan;
mod registry;
mod run;
mod scenario;
mod timeline;
mod traffic;
mod world;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    run::run(&run::Args::parse())
}
