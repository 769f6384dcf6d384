//! `cargo xtask <verb>`: the one door for a developer, the README and CI.
//!
//! This file only lists the verbs; each lives in the module of its name. It never holds logic.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "talking to a terminal is its work")]

mod bench;
mod command;
mod compile;
mod docker_archive;
mod generate;
mod http;
mod image;
mod kube;
mod lint;
mod miri;
mod packages;
mod soak;
mod test;
mod tools;
mod up;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The one door to building, running and testing Larder.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds Larder and serves the sample on this machine; Ctrl-C ends it.
    Up(up::Args),
    /// Everything that must hold, tier by tier.
    Test(test::Args),
    /// Format and lints, warnings as errors.
    Lint(lint::Args),
    /// The engine's data structures, interpreted by Miri; needs a nightly toolchain.
    Miri(miri::Args),
    /// Writes the files that are made from others: custom resources, manifests.
    Generate(generate::Args),
    /// Compares a member with other servers, and its engine with other libraries, and rewrites the
    /// pages of the last figures.
    Bench(bench::Args),
    /// Runs something for minutes and fails unless it stays as it should.
    Soak(soak::Args),
    /// Container images from static programs, as docker-archives.
    Image(image::Args),
    /// A real Kubernetes on this machine, in network namespaces of its own.
    Kube(kube::Args),
    /// Builds the pinned Go tools (etcd, helm, kubectl, ...) and prints where they are.
    Tools(tools::Args),
}

fn main() -> ExitCode {
    let done = match Args::parse().verb {
        Verb::Up(args) => up::run(args),
        Verb::Test(args) => return test::run(&args),
        Verb::Lint(args) => lint::run(&args),
        Verb::Miri(args) => miri::run(&args),
        Verb::Generate(args) => generate::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Soak(args) => soak::run(&args),
        Verb::Image(args) => image::run(&args),
        Verb::Kube(args) => kube::run(args),
        Verb::Tools(args) => tools::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn every_verb_can_be_parsed() {
        super::Args::command().debug_assert();
    }
}
