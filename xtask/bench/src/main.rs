//! The programs of one comparison: a load generator, a tonic echo server as the baseline, and the
//! registry and origin that a single member needs. Only `cargo xtask bench` starts them, each pinned
//! to a processor.
//!
//! Nothing here is part of the product.
#![expect(clippy::print_stdout, reason = "xtask reads the results from standard output")]

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
        /// Address to listen on.
        #[arg(long)]
        listen: SocketAddr,
        /// Size of the value in bytes.
        #[arg(long)]
        value_bytes: usize,
    },
    /// A registry with one group, and the HTTP origin of that group.
    Surroundings {
        /// Size of a value in bytes.
        #[arg(long)]
        value_bytes: usize,
    },
    /// Sends requests to a server as fast as it answers, and prints the figures as one line of JSON.
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
