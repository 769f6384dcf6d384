//! `larder check`: named checks of a file, or of each step on the path to the members, with hints.

mod file;
mod finding;
mod reach;

use std::path::PathBuf;

use clap::Args;

use self::finding::{Verdict, as_json, as_text, count};
use crate::connect::{Connection, runtime};
use crate::exit;
use crate::output::{Output, Report};
use crate::table::terminal_width;

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// File of CacheClusters and CacheGroups to check against their schema and rules, without
    /// asking a member; - reads standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    connection: Connection,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let findings = match &self.file {
            Some(path) => file::check(path)?,
            None => runtime()?.block_on(reach::check(&self.connection))?,
        };
        let failed = count(&findings, Verdict::Fail) > 0;
        let code = if failed { exit::FAILURE } else { exit::OK };
        Ok(Report::new(as_text(&findings, terminal_width()), as_json(&findings)).code(code))
    }
}
