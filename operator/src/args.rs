//! Owns the command line: flags, their environment variables and defaults. It starts nothing.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use larder_runtime::exit;
use larder_runtime::log::Format;

/// The Larder operator.
#[derive(Debug, Parser)]
#[command(name = "larder-operator", version, about, disable_help_subcommand = true)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconcile CacheClusters and CacheGroups until told to stop.
    Run(Box<Run>),
    /// Print the CustomResourceDefinitions, or write them to a folder.
    Crd {
        /// Folder to write to; standard output without it.
        #[arg(long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

/// Flags of `run`.
#[derive(Debug, clap::Args)]
pub struct Run {
    /// Namespaces to watch, separated by commas. Default: the operator's own.
    #[arg(
        long,
        env = "LARDER_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMES",
        conflicts_with = "cluster_wide"
    )]
    pub namespaces: Vec<String>,
    /// Watch every namespace. Secrets are then read by name and not watched.
    #[arg(long, env = "LARDER_CLUSTER_WIDE")]
    pub cluster_wide: bool,
    /// Lease by which replicas agree on who works.
    #[arg(long, env = "LARDER_LEASE_NAME", default_value = "larder-operator", value_name = "NAME")]
    pub lease_name: String,
    /// The operator's own namespace, where the lease is.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default", value_name = "NAME")]
    pub own_namespace: String,
    /// Name of the operator's pod.
    #[arg(long, env = "POD_NAME", value_name = "NAME", requires = "pod_uid")]
    pub pod_name: Option<String>,
    /// Uid of the operator's pod.
    #[arg(long, env = "POD_UID", value_name = "UID", requires = "pod_name")]
    pub pod_uid: Option<String>,
    /// Where metrics and probes are served.
    #[arg(
        long,
        env = "LARDER_ADMIN_ADDRESS",
        default_value = "0.0.0.0:7690",
        value_name = "ADDRESS"
    )]
    pub admin_address: SocketAddr,
    /// Image of members for CacheClusters that name none. Default: larder-node of this version.
    #[arg(long, env = "LARDER_NODE_IMAGE", value_name = "IMAGE")]
    pub node_image: Option<String>,
    /// Image of etcd for CacheClusters that name none. Default: larder-etcd of this version.
    #[arg(long, env = "LARDER_ETCD_IMAGE", value_name = "IMAGE")]
    pub etcd_image: Option<String>,
    /// Form of log lines: text or json.
    #[arg(long, env = "LARDER_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: Format,
    /// What is logged, such as info,larder_operator=debug.
    #[arg(long, env = "LARDER_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

impl Run {
    /// The namespaces to watch; nothing means all.
    #[must_use]
    pub fn scope(&self) -> Option<Vec<String>> {
        let named = self.namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        let mut names: Vec<String> = named.map(str::to_owned).collect();
        names.sort();
        names.dedup();
        match (self.cluster_wide, names.is_empty()) {
            (true, _) => None,
            (false, true) => Some(vec![self.own_namespace.clone()]),
            (false, false) => Some(names),
        }
    }
}

/// Reads the command line.
///
/// # Errors
/// The code to exit with, after help or one line about what is wrong was printed.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Args, ExitCode> {
    Args::try_parse_from(arguments).map_err(|error| {
        let code = if error.use_stderr() { exit::BAD_CONFIGURATION } else { exit::OK };
        // Nothing more can be done when even this cannot be printed.
        let _ = error.print();
        ExitCode::from(code)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(arguments: &[&str]) -> Run {
        let all = ["larder-operator", "run"].iter().chain(arguments);
        match Args::try_parse_from(all).expect("valid").command {
            Command::Run(run) => *run,
            Command::Crd { .. } => panic!("run"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn scope_is_the_own_namespace_unless_said_otherwise() {
        let own = Some(vec!["larder".to_owned()]);
        assert_eq!(run(&["--own-namespace", "larder"]).scope(), own);
        let two = Some(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(run(&["--namespaces", "b, a,,b"]).scope(), two);
        assert_eq!(run(&["--cluster-wide"]).scope(), None);
    }

    #[test]
    fn contradicting_flags_are_refused() {
        for arguments in [
            &["run", "--cluster-wide", "--namespaces", "a"][..],
            &["run", "--pod-name", "a"],
            &["run", "--admin-address", "nowhere"],
            &["run", "--log-format", "xml"],
        ] {
            let all = ["larder-operator"].iter().chain(arguments);
            assert!(Args::try_parse_from(all).is_err(), "{arguments:?}");
        }
    }
}
