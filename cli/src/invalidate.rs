//! `larder invalidate`: drops keys, or a whole group, from every member.

use std::ffi::OsString;

use clap::Args;
use serde_json::json;

use crate::connect::{Connection, runtime};
use crate::exit::{self, BadConfiguration};
use crate::keys::KeyFlags;
use crate::output::{Output, Report};
use crate::text::plural;

#[derive(Debug, Args)]
pub(crate) struct Invalidate {
    /// Name of the CacheGroup, alone or with the key
    #[arg(value_name = "GROUP[/KEY]")]
    group: OsString,

    /// The keys
    #[arg(value_name = "KEY")]
    keys: Vec<OsString>,

    #[command(flatten)]
    key_flags: KeyFlags,

    /// Drop the whole group; its keys are then loaded again from the origin
    #[arg(long, conflicts_with_all = ["keys", "key_base64", "key_file"])]
    all: bool,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    connection: Connection,
}

impl Invalidate {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let target = self.key_flags.target(&self.group, &self.keys)?;
        if target.keys.is_empty() != self.all {
            let text = "name the keys, or say --all for the whole group";
            return Err(BadConfiguration(text.into()).into());
        }
        let client = self.connection.client()?;
        let done = runtime()?.block_on(client.invalidate(&target.group, &target.keys))?;
        let what = match self.all {
            true => "the whole group".to_owned(),
            false => plural(target.keys.len(), "key"),
        };
        let text = format!(
            "{what} of {} dropped; {} of {} members confirmed\n",
            target.group, done.members_reached, done.members_total
        );
        let result = json!({
            "group": target.group, "keys": target.keys.len(), "wholeGroup": self.all,
            "membersReached": done.members_reached, "membersTotal": done.members_total,
        });
        let everywhere = done.members_reached >= done.members_total;
        let code = if everywhere { exit::OK } else { exit::FAILURE };
        Ok(Report::new(text, result).code(code))
    }
}
