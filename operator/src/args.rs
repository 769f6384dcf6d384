//! Owns the command line: flags, their environment variables and defaults.

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
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconcile CacheClusters and CacheGroups until stopped by a signal.
    Run(Box<Run>),
    /// Print the CustomResourceDefinitions, or write them to a folder.
    Crd {
        /// Folder to write to. Default: standard output.
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
    /// Watch every namespace. Secrets are then read by name instead of watched.
    #[arg(long, env = "LARDER_CLUSTER_WIDE")]
    pub cluster_wide: bool,
    /// Name of the Lease that decides which replica is the leader.
    #[arg(long, env = "LARDER_LEASE_NAME", default_value = "larder-operator", value_name = "NAME")]
    pub lease_name: String,
    /// Namespace of the operator's pod and of the Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "default", value_name = "NAME")]
    pub own_namespace: String,
    /// Name of the operator's pod.
    #[arg(long, env = "POD_NAME", value_name = "NAME", requires = "pod_uid")]
    pub pod_name: Option<String>,
    /// Uid of the operator's pod.
    #[arg(long, env = "POD_UID", value_name = "UID", requires = "pod_name")]
    pub pod_uid: Option<String>,
    /// Address on which metrics and probes are served.
    #[arg(
        long,
        env = "LARDER_ADMIN_ADDRESS",
        default_value = "0.0.0.0:7690",
        value_name = "ADDRESS"
    )]
    pub admin_address: SocketAddr,
    /// Image of members for CacheClusters that set none. Default: larder-node:dev.
    #[arg(long, env = "LARDER_NODE_IMAGE", value_name = "IMAGE")]
    pub node_image: Option<String>,
    /// Image of etcd for CacheClusters that set none. Default: larder-etcd:dev.
    #[arg(long, env = "LARDER_ETCD_IMAGE", value_name = "IMAGE")]
    pub etcd_image: Option<String>,
    /// Format of log lines: text or json.
    #[arg(long, env = "LARDER_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: Format,
    /// Log filter, such as info,larder_operator=debug.
    #[arg(long, env = "LARDER_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
}

impl Run {
    /// The namespaces to watch, sorted; `None` for all.
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

/// Parses the command line.
///
/// # Errors
/// The exit code, after the help or an error message was printed.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Args, ExitCode> {
    Args::try_parse_from(arguments).map_err(|error| {
        let code = if error.use_stderr() { exit::BAD_CONFIGURATION } else { exit::OK };
        // There is nowhere to report that printing failed.
        let _ = error.print();
        ExitCode::from(code)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(arguments: &[&str]) -> Run {
        let line = ["larder-operator", "run"].iter().chain(arguments);
        match Args::try_parse_from(line).expect("valid").command {
            Command::Run(run) => *run,
            Command::Crd { .. } => panic!("run"),
        }
    }

    #[test]
    fn the_command_line_is_valid() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_default_scope_is_the_operators_own_namespace() {
        let own = Some(vec!["larder".to_owned()]);
        assert_eq!(run(&["--own-namespace", "larder"]).scope(), own);
        let two = Some(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(run(&["--namespaces", "b, a,,b"]).scope(), two);
        assert_eq!(run(&["--cluster-wide"]).scope(), None);
    }

    #[test]
    fn conflicting_and_malformed_flags_are_refused() {
        for arguments in [
            &["run", "--cluster-wide", "--namespaces", "a"][..],
            &["run", "--pod-name", "a"],
            &["run", "--admin-address", "nowhere"],
            &["run", "--log-format", "xml"],
        ] {
            let line = ["larder-operator"].iter().chain(arguments);
            assert!(Args::try_parse_from(line).is_err(), "{arguments:?}");
        }
    }
}
