//! `cargo xtask lab`: builds the laboratory (`lab/`) and runs it.
//!
//! It simulates nothing itself. `bugs` plants bugs into a copy of the sources, never into the
//! sources.

mod bugs;
mod build;

use anyhow::Result;
use clap::Subcommand;

use self::build::cargo;
use crate::{command, workspace};

/// `cargo xtask lab`
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  cargo xtask lab                            2,000 worlds, until the first that breaks a rule
  cargo xtask lab --seeds 100000             an hour or so
  cargo xtask lab --seed 4711                one world again, with its timeline
  cargo xtask lab --from 2000 --keep-going   the next 2,000, and how often each rule breaks
  cargo xtask lab bugs                       plants each bug of lab/bugs and looks for it"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    seeds: Seeds,
}

#[derive(Subcommand)]
enum Verb {
    /// Plants each bug of lab/bugs into a copy of the sources, and prints how many seeds it takes
    /// to find it.
    Bugs(bugs::Args),
}

/// Which worlds run.
#[derive(clap::Args)]
struct Seeds {
    /// Number of seeds; 2,000 by default.
    #[arg(long)]
    seeds: Option<u64>,
    /// First seed; 0 by default.
    #[arg(long)]
    from: Option<u64>,
    /// Runs this seed only, and prints its timeline.
    #[arg(long, conflicts_with_all = ["seeds", "from", "seconds"])]
    seed: Option<u64>,
    /// Ends after this many seconds, whatever number of seeds has run.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Runs all seeds although some fail, and counts the broken rules.
    #[arg(long)]
    keep_going: bool,
}

/// Runs the laboratory, or looks for planted bugs.
///
/// # Errors
/// When a world breaks a rule, or a planted bug is not found; the findings are on the terminal.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let Some(Verb::Bugs(args)) = &args.verb {
        return bugs::run(args);
    }
    let Seeds { seeds, from, seed, seconds, keep_going } = &args.seeds;
    let mut lab = cargo(workspace::root(), "run");
    lab.arg("--");
    let numbers = [("--seeds", seeds), ("--from", from), ("--seed", seed), ("--seconds", seconds)];
    for (flag, number) in numbers {
        lab.args(number.iter().flat_map(|number| [flag.to_owned(), number.to_string()]));
    }
    lab.args(keep_going.then_some("--keep-going"));
    command::shown(&mut lab)
}
