//! The programs of one comparison: a load generator, a bare tonic echo to compare with, and what a
//! lone member needs around it. `cargo xtask bench` starts and pins them; nobody else needs them.
//!
//! Nothing here is part of the product.
#![expect(clippy::print_stdout, reason = "its answers are read from its output")]

mod cpu;
mod echo;
mod load;
mod surroundings;

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Programs of `cargo xtask bench`.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// A tonic server that answers every Get with the same value.
    Echo {
        /// Where it listens.
        #[arg(long)]
        listen: SocketAddr,
        /// Size of the value, bytes.
        #[arg(long)]
        value_bytes: usize,
    },
    /// A registry with one group, and the HTTP origin of that group.
    Surroundings {
        /// Size of a value, bytes.
        #[arg(long)]
        value_bytes: usize,
    },
    /// Asks a server as fast as it answers, and prints what came of it as one line of JSON.
    Load(load::Options),
}

fn main() -> Result<()> {
    match Args::parse().verb {
        Verb::Echo { listen, value_bytes } => echo::serve(listen, value_bytes),
        Verb::Surroundings { value_bytes } => surroundings::serve(value_bytes),
        Verb::Load(options) => {
            println!("{}", serde_json::to_string(&load::run(&options)?)?);
            Ok(())
        }
    }
}
