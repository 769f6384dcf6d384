//! `larder invalidate`: drops keys, values with a tag, or a whole group, from every member.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use bytes::Bytes;
use clap::Args;
use larder_proto::v1::InvalidateRequest;
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

    /// Drop every value that the origin gave this tag; may be repeated
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<OsString>,

    /// Drop the whole group; its keys are then loaded again from the origin
    #[arg(long, conflicts_with_all = ["keys", "key_base64", "key_file", "tags"])]
    all: bool,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    connection: Connection,
}

impl Invalidate {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let target = self.key_flags.target(&self.group, &self.keys)?;
        let (keys, tags) = (target.keys.len(), self.tags.len());
        if (keys + tags == 0) != self.all {
            let text = "name the keys or a --tag, or say --all for the whole group";
            return Err(BadConfiguration(text.into()).into());
        }
        let client = self.connection.client()?;
        let done = runtime()?.block_on(client.invalidate_scope(InvalidateRequest {
            group: target.group.clone(),
            keys: target.keys,
            tags: self.tags.into_iter().map(|tag| Bytes::from(tag.into_vec())).collect(),
        }))?;
        let what = match (keys, tags) {
            (0, 0) => "the whole group".to_owned(),
            (_, 0) => plural(keys, "key"),
            (0, _) => plural(tags, "tag"),
            _ => format!("{} and {}", plural(keys, "key"), plural(tags, "tag")),
        };
        let text = format!(
            "{what} of {} dropped; {} of {} members confirmed\n",
            target.group, done.members_reached, done.members_total
        );
        let result = json!({
            "group": target.group, "keys": keys, "tags": tags, "wholeGroup": self.all,
            "membersReached": done.members_reached, "membersTotal": done.members_total,
        });
        let everywhere = done.members_reached >= done.members_total;
        let code = if everywhere { exit::OK } else { exit::FAILURE };
        Ok(Report::new(text, result).code(code))
    }
}
