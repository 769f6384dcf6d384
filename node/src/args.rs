//! Flags and environment variables of the program. Reads no file.

use std::path::PathBuf;

use clap::Parser;
use larder_runtime::log::Format;

use crate::config::Identity;

const EXAMPLES: &str = "\
Examples:
  A member as its StatefulSet runs it; name, uid and address come from the environment:
    larder-node --config /etc/larder/config/node.json --log-format json

  The same with flags:
    larder-node --config node.json --name shop-0 --uid by-hand --advertise-host 127.0.0.1

  Check a file without starting:
    larder-node --config node.json --check-config

Exit codes: 0 after a clean drain, 1 after a failure, 64 for invalid flags or configuration, 130 or
143 if a second signal ended the drain early.";

/// A cache member or, in sidecar mode, a near cache next to an application.
#[derive(Debug, Parser)]
#[command(name = "larder-node", version, after_help = EXAMPLES)]
pub struct Args {
    /// JSON configuration file, as the operator renders it
    #[arg(long, value_name = "FILE", env = "LARDER_CONFIG")]
    pub config: PathBuf,

    /// Name of this member: its pod's name, the same after a restart
    #[arg(long, env = "LARDER_MEMBER_NAME", default_value = "")]
    pub name: String,

    /// Distinguishes this process from its predecessor of the same name: its pod's uid
    #[arg(long, env = "LARDER_POD_UID", default_value = "")]
    pub uid: String,

    /// Host or address at which others reach this member: its pod's address
    #[arg(long, value_name = "HOST", env = "LARDER_POD_IP", default_value = "")]
    pub advertise_host: String,

    /// Topology zone of this member, if known
    #[arg(long, env = "LARDER_ZONE")]
    pub zone: Option<String>,

    /// Format of the log lines: text or json
    #[arg(long, value_name = "FORMAT", env = "LARDER_LOG_FORMAT", default_value = "text")]
    pub log_format: Format,

    /// Log filter, such as info,larder_node=debug
    #[arg(long, value_name = "FILTER", env = "LARDER_LOG", default_value = "info")]
    pub log: String,

    /// Check the configuration and exit
    #[arg(long)]
    pub check_config: bool,
}

impl Args {
    /// The node's identity. A sidecar does not register, so its name may be empty.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            name: self.name.clone(),
            uid: self.uid.clone(),
            advertise_host: self.advertise_host.clone(),
            zone: self.zone.clone().filter(|zone| !zone.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_is_valid_and_its_help_has_examples() {
        let mut command = Args::command();
        command.clone().debug_assert();
        let help = command.render_long_help().to_string();
        assert!(help.contains("larder-node --config") && help.contains("Exit codes"), "{help}");
    }
}
