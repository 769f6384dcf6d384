//! `larder completions`: a shell's completion script on standard output.

use clap::{Args, Command, ValueEnum};
use clap_complete::generate;

use crate::output::Report;

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(crate) fn run(self, mut command: Command) -> Report {
        let shell = match self.shell {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Zsh => clap_complete::Shell::Zsh,
            Shell::Fish => clap_complete::Shell::Fish,
        };
        let mut text = Vec::new();
        generate(shell, &mut command, "larder", &mut text);
        Report { text, ..Report::default() }
    }
}
