//! `cargo xtask <verb>`: every development task, for developers, the README and CI.
//!
//! This file lists the verbs; each is implemented in the module of its name.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command-line tool")]

mod bench;
mod command;
mod compile;
mod docker_archive;
mod generate;
mod http;
mod image;
mod kube;
mod lab;
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

/// Builds, runs, tests and measures Larder.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds Larder and serves the sample on this machine until Ctrl-C.
    Up(up::Args),
    /// Runs every check, tier by tier.
    Test(test::Args),
    /// Checks format, lints (warnings are errors) and imports.
    Lint(lint::Args),
    /// Runs the tests of the engine's data structures under Miri; needs a nightly toolchain.
    Miri(miri::Args),
    /// Writes generated files: custom resource definitions, manifests.
    Generate(generate::Args),
    /// Compares a member with other servers, and its engine with other libraries, and updates the
    /// pages with the figures.
    Bench(bench::Args),
    /// Runs the engine under load for minutes and fails when its memory grows.
    Soak(soak::Args),
    /// Runs simulated clusters under faults, seed by seed, and checks what their readers saw.
    Lab(lab::Args),
    /// Builds container images with static programs, as docker-archives.
    Image(image::Args),
    /// Runs a real Kubernetes on this machine, in its own network namespaces.
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
        Verb::Lab(args) => lab::run(&args),
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
