//! `larder invalidate`: drops keys, or a whole group, from every member.

use std::process::ExitCode;

use clap::Args;

use crate::connect::{Endpoint, runtime};
use crate::exit::BadConfiguration;
use crate::output::print;

#[derive(Debug, Args)]
pub(crate) struct Invalidate {
    /// Name of the CacheGroup
    group: String,

    /// The keys
    #[arg(value_name = "KEY")]
    keys: Vec<String>,

    /// Drop the whole group; its keys are then loaded again from the origin
    #[arg(long, conflicts_with = "keys")]
    all: bool,
}

impl Invalidate {
    pub(crate) fn run(self, endpoint: &Endpoint) -> anyhow::Result<ExitCode> {
        if self.keys.is_empty() && !self.all {
            let text = "name the keys, or say --all for the whole group";
            return Err(BadConfiguration(text.into()).into());
        }
        let client = endpoint.client()?;
        let done = runtime()?.block_on(client.invalidate(&self.group, &self.keys))?;
        let what = match self.keys.len() {
            0 => "the whole group".to_owned(),
            1 => "1 key".to_owned(),
            n => format!("{n} keys"),
        };
        print(format!(
            "{what} of {} dropped; {} of {} members confirmed\n",
            self.group, done.members_reached, done.members_total
        ))?;
        let everywhere = done.members_reached >= done.members_total;
        Ok(if everywhere { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
