//! The command line: verbs, flags, their help.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::bench::Bench;
use crate::check::Check;
use crate::completions::Completions;
use crate::curve::ShowCurve;
use crate::exit::{self, Failed};
use crate::explain::Explain;
use crate::get::Get;
use crate::hot::Hot;
use crate::invalidate::Invalidate;
use crate::man::Man;
use crate::output::{ENVELOPE_HELP, finish, print_error_envelope, requested};
use crate::ring::ShowRing;
use crate::status::Status;
use crate::up::Up;
use crate::warm::Warm;

/// The name under which kubectl finds the program as a plugin.
const PLUGIN: &str = "kubectl-larder";

macro_rules! exit_codes {
    () => {
        "Exit codes:
  0   done; for get and explain: found
  1   failed: no member answered, an unknown group, a failed check, a key that failed to load
  4   get and explain: absent, the origin says there is no such key
  64  wrong usage or configuration; one line says what is wrong"
    };
}

/// Examples, then the exit codes, in one literal as clap wants it.
macro_rules! concat_help {
    ($($example:literal),+) => {
        concat!("Examples:\n", $("  ", $example, "\n"),+, "\n", exit_codes!())
    };
}

/// Read through a Larder cache, inspect it, load it, or run one on this machine.
#[derive(Debug, Parser)]
#[command(name = "larder", version, disable_help_subcommand = true, after_help = exit_codes!())]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

const REACHING: &str = "\
Verbs that ask a member take --endpoint or LARDER_ENDPOINT. From a laptop, the members of a
Kubernetes cluster are not reached directly: forward a port first, as in
`kubectl port-forward service/shop 7600`, and any member answers for every key.";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a whole cluster on this machine: members, registry, demo database, in one process
    #[command(after_help = concat_help!(
        "larder up",
        "larder up -f my.yaml --secret orders-db/url=@orders.url",
        "larder up --members 1 --port-base 0 --watch=false"
    ))]
    Up(Up),

    /// Read keys
    #[command(after_help = concat_help!(
        "larder get students Tom",
        "larder get students/Tom --explain",
        "larder get students Tom Jack Sam",
        "larder get thumbnails 42 -o raw > 42.png",
        "larder get students Tom -o json --endpoint shop.prod.svc"
    ))]
    Get(Get),

    /// Explain where a key lives and why its answer is what it is
    #[command(after_help = concat_help!(
        "larder explain students/Tom",
        "larder explain students Tom -o json"
    ))]
    Explain(Explain),

    /// Show members, memory, hit ratio and groups; exit 1 when a member does not answer
    #[command(after_help = concat_help!(
        "larder status",
        "larder status --watch",
        "larder status -o json"
    ))]
    Status(Status),

    /// Show the ring: each member's share of the keys, or one key's owner
    #[command(after_help = concat_help!("larder ring", "larder ring students/Tom"))]
    Ring(ShowRing),

    /// Draw the hit ratio that a group would have with other memory, or under another policy
    #[command(after_help = concat_help!(
        "larder curve students",
        "larder curve students -o json"
    ))]
    Curve(ShowCurve),

    /// List the keys that are asked for most, with rates; keys only, never values
    #[command(after_help = concat_help!(
        "larder hot",
        "larder hot students -n 20",
        "larder hot students -o json"
    ))]
    Hot(Hot),

    /// Drop keys, tags or a group from every member; exit 1 when a member did not confirm
    #[command(after_help = concat_help!(
        "larder invalidate students Tom Ann",
        "larder invalidate students --tag course:7 --tag course:9",
        "larder invalidate students --all"
    ))]
    Invalidate(Invalidate),

    /// Check a file of resources, or the way to the members, step by step and with hints
    #[command(after_help = concat_help!(
        "larder check -f manifests/examples/shop.yaml",
        "kustomize build . | larder check -f -",
        "larder check --endpoint shop.prod.svc",
        "larder check -o json"
    ))]
    Check(Check),

    /// Load a running cluster and measure it: rate, latency, where answers came from
    #[command(after_help = concat_help!(
        "larder bench students --key-pattern 'student-{:04}' --keys 4000",
        "larder bench students --rate 500 --duration 30 --zipf 1.1",
        "larder bench students --batch 50 --requests 10000 -o json"
    ))]
    Bench(Bench),

    /// Load keys before applications ask for them: from a list, or those that are hot
    #[command(after_help = concat_help!(
        "larder warm students --from keys.txt",
        "sqlite3 shop.db 'SELECT name FROM students' | larder warm students --from -",
        "larder warm students --hot-of shop-blue.prod.svc"
    ))]
    Warm(Warm),

    /// Print a completion script for a shell
    #[command(after_help = concat_help!(
        "source <(larder completions bash)",
        "larder completions zsh > ~/.zfunc/_larder",
        "larder completions fish > ~/.config/fish/completions/larder.fish"
    ))]
    Completions(Completions),

    /// Write manual pages
    #[command(after_help = concat_help!("larder man --output /usr/local/share/man/man1"))]
    Man(Man),
}

/// The definition of the whole command line.
fn command() -> Command {
    let long_help = format!("{REACHING}\n\n{ENVELOPE_HELP}\n\n{}", exit_codes!());
    Args::command().after_long_help(long_help)
}

/// Reads the command line; prints help, version or the usage error itself.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    let called = args.first().and_then(|name| Path::new(name).file_stem());
    let mut command = command();
    if called.is_some_and(|name| name == PLUGIN) {
        let examples = |verb: Command| {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            verb.after_help(help.replace("  larder ", "  kubectl larder "))
        };
        command = command.bin_name("kubectl larder").mut_subcommands(examples);
    }
    let verb = verb_name(&command, &args);
    let parsed = command.try_get_matches_from(&args).and_then(|m| Args::from_arg_matches(&m));
    parsed.map_err(|error| {
        // The exit code is all that is left when even that cannot be printed.
        let _ = error.print();
        if !error.use_stderr() {
            return ExitCode::from(exit::OK);
        }
        if let Some(form) = requested(&args) {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            let line = line.strip_prefix("error: ").unwrap_or(line).to_owned();
            print_error_envelope(&verb, form, &Failed::usage(line));
        }
        ExitCode::from(exit::BAD_CONFIGURATION)
    })
}

/// The first argument that is a verb, for an error found before the arguments are parsed.
fn verb_name(command: &Command, args: &[OsString]) -> String {
    let verbs = args.iter().filter_map(|arg| command.find_subcommand(arg));
    verbs.map(|verb| verb.get_name().to_owned()).next().unwrap_or_default()
}

impl Args {
    pub(crate) fn run(self) -> ExitCode {
        match self.verb {
            Verb::Up(verb) => finish("up", verb.output.structured(), verb.run()),
            Verb::Get(verb) => finish("get", verb.structured(), verb.run()),
            Verb::Explain(verb) => finish("explain", verb.output.structured(), verb.run()),
            Verb::Status(verb) => finish("status", verb.output.structured(), verb.run()),
            Verb::Ring(verb) => finish("ring", verb.output.structured(), verb.run()),
            Verb::Curve(verb) => finish("curve", verb.output.structured(), verb.run()),
            Verb::Hot(verb) => finish("hot", verb.output.structured(), verb.run()),
            Verb::Invalidate(verb) => finish("invalidate", verb.output.structured(), verb.run()),
            Verb::Check(verb) => finish("check", verb.output.structured(), verb.run()),
            Verb::Bench(verb) => finish("bench", verb.output.structured(), verb.run()),
            Verb::Warm(verb) => finish("warm", verb.output.structured(), verb.run()),
            Verb::Completions(verb) => finish("completions", None, Ok(verb.run(command()))),
            Verb::Man(verb) => finish("man", None, verb.run(command())),
        }
    }
}
