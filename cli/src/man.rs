//! `larder man`: the manual pages, made from the same definitions as the help.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};

use crate::output::Report;
use crate::text::plural;

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Folder for larder.1 and one page a verb; made when it does not exist
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
}

impl Man {
    pub(crate) fn run(self, command: Command) -> anyhow::Result<Report> {
        let folder = self.output.display();
        std::fs::create_dir_all(&self.output).with_context(|| format!("cannot make {folder}"))?;
        let pages = 1 + command.get_subcommands().count();
        clap_mangen::generate_to(command, &self.output)
            .with_context(|| format!("cannot write to {folder}"))?;
        let text = format!("{} in {folder}; read one with man -l\n", plural(pages, "page"));
        Ok(Report { text: text.into(), ..Report::default() })
    }
}
