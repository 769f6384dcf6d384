//! The command line: verbs, flags, their help.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use larder_runtime::exit;

use crate::check::Check;
use crate::connect::Endpoint;
use crate::curve::ShowCurve;
use crate::exit::HELP;
use crate::explain::Explain;
use crate::get::Get;
use crate::hot::Hot;
use crate::invalidate::Invalidate;
use crate::ring::ShowRing;
use crate::status::Status;
use crate::up::Up;

/// The name under which kubectl finds the program as a plugin.
const PLUGIN: &str = "kubectl-larder";

/// Examples, then the exit codes, in one literal as clap wants it.
macro_rules! concat_help {
    ($($example:literal),+) => {
        concat!(
            "Examples:\n", $("  ", $example, "\n"),+,
            "\nExit codes:\n",
            "  0   done; for get and explain: found\n",
            "  1   failed: no member answered, an unknown group, a check that failed\n",
            "  4   get and explain: absent, the origin says there is no such key\n",
            "  64  wrong usage or configuration, told in one line"
        )
    };
}
/// Read through a Larder cache, look into it, or run one on this machine.
#[derive(Debug, Parser)]
#[command(
    name = "larder",
    version,
    disable_help_subcommand = true,
    after_help = HELP,
    after_long_help = LONG_HELP
)]
pub(crate) struct Args {
    #[command(flatten)]
    endpoint: Endpoint,

    #[command(subcommand)]
    verb: Verb,
}

const LONG_HELP: &str = "\
Every verb but `up` and `check -f` asks a member, named by --endpoint or LARDER_ENDPOINT. From a
laptop, the members of a Kubernetes cluster are not reached directly: forward a port first, as in
`kubectl port-forward service/shop 7600`, and any member answers for every key.

Exit codes:
  0   done; for get and explain: found
  1   failed: no member answered, an unknown group, a check that failed
  4   get and explain: absent, the origin says there is no such key
  64  wrong usage or configuration, told in one line";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run a whole cluster on this machine: members, registry, demo database, in one process
    #[command(after_help = concat_help!(
        "larder up",
        "larder up -f my.yaml --secret orders-db/url=postgres://user:password@host/orders",
        "larder up --members 1 --port-base 0"
    ))]
    Up(Up),

    /// Read one key
    #[command(after_help = concat_help!(
        "larder get students Tom",
        "larder get students Tom --explain",
        "larder get thumbnails 42 -o raw > 42.png",
        "larder get students Tom -o json --endpoint shop.prod.svc:7600"
    ))]
    Get(Get),

    /// Tell where a key lives and why its answer is what it is
    #[command(after_help = concat_help!(
        "larder explain students Tom",
        "larder explain students Tom -o json"
    ))]
    Explain(Explain),

    /// Show members, memory, hit ratio and groups on one screen; exit 1 when a member is silent
    #[command(after_help = concat_help!("larder status", "larder status -o json"))]
    Status(Status),

    /// Show the ring: each member's share of the keys, or one key's owner
    #[command(after_help = concat_help!("larder ring", "larder ring students Tom"))]
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

    /// Drop keys, or a whole group, from every member; exit 1 when a member did not confirm
    #[command(after_help = concat_help!(
        "larder invalidate students Tom Ann",
        "larder invalidate students --all"
    ))]
    Invalidate(Invalidate),

    /// Check a file of resources, or the way to the members, by name and with hints
    #[command(after_help = concat_help!(
        "larder check -f manifests/examples/shop.yaml",
        "larder check --endpoint shop.prod.svc:7600",
        "larder check -o json"
    ))]
    Check(Check),
}

/// Reads the command line; prints help, version or the usage error itself.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Args, ExitCode> {
    let args: Vec<OsString> = args.into_iter().collect();
    let called = args.first().and_then(|name| Path::new(name).file_stem());
    let mut command = Args::command();
    if called.is_some_and(|name| name == PLUGIN) {
        let examples = |verb: clap::Command| {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            verb.after_help(help.replace("  larder ", "  kubectl larder "))
        };
        command = command.bin_name("kubectl larder").mut_subcommands(examples);
    }
    let parsed = command.try_get_matches_from(args).and_then(|m| Args::from_arg_matches(&m));
    parsed.map_err(|error| {
        // Nothing can be told when even that cannot be printed.
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { exit::BAD_CONFIGURATION } else { exit::OK })
    })
}

impl Args {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let endpoint = &self.endpoint;
        match self.verb {
            Verb::Up(verb) => verb.run(),
            Verb::Get(verb) => verb.run(endpoint),
            Verb::Explain(verb) => verb.run(endpoint),
            Verb::Status(verb) => verb.run(endpoint),
            Verb::Ring(verb) => verb.run(endpoint),
            Verb::Curve(verb) => verb.run(endpoint),
            Verb::Hot(verb) => verb.run(endpoint),
            Verb::Invalidate(verb) => verb.run(endpoint),
            Verb::Check(verb) => verb.run(endpoint),
        }
    }
}
