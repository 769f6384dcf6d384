//! README's commands for Kubernetes, run as printed in one shell of this machine, outside the
//! cluster's network.

use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::access::{folder, kubectl};
use crate::command;
use crate::test::checks::{Checks, expect};
use crate::test::report::Count;
use crate::workspace;

/// Name of the check, for filters.
pub(super) const NAME: &str = "readmes_commands_for_kubernetes_work_as_printed";
/// Sections whose console blocks run, in this order.
const SECTIONS: [&str; 2] = ["## A throw-away Kubernetes", "## On a Kubernetes of your own"];
/// Commands that the tier has run already.
const DONE: [&str; 3] = ["cargo xtask kube up", "cargo xtask image", "cargo xtask kube load"];
/// The value that README's last command prints.
const VALUE: &str = "\"value\":\"630\"";

/// Runs the commands. On a cluster that other runs have used, removes what the commands create.
///
/// # Errors
/// When README or the cluster cannot be read.
pub(super) fn run(new_cluster: bool) -> Result<Count> {
    let readme = fs::read_to_string(workspace::root().join("README.md")).context("read README")?;
    let commands = commands(&readme);
    let mut checks = Checks::new("kubernetes");
    for done in DONE {
        let printed = commands.iter().any(|line| line == done);
        checks.add(&format!("README prints `{done}`"), expect(printed, || commands.join("\n")));
    }
    if !new_cluster {
        remove_release()?;
    }
    let begin = Instant::now();
    let rest: Vec<&str> =
        commands.iter().map(String::as_str).filter(|line| !DONE.contains(line)).collect();
    let script = format!("set -e\n{}\n", rest.join("\n"));
    let mut shell = Command::new("bash");
    shell.current_dir(workspace::root()).args(["-c", &script]);
    let read = command::output(&mut shell).and_then(|output| {
        println!("$ {}\n{}", rest.join("\n$ "), output.trim_end());
        expect(output.lines().last().is_some_and(|line| line.contains(VALUE)), || {
            format!("the last command does not print {VALUE}: {output}")
        })
    });
    checks.add(NAME, read);
    println!("README's commands took {:.1} s", begin.elapsed().as_secs_f64());
    let namespace = ["delete", "namespace", "shop", "--ignore-not-found", "--wait=false"];
    command::output(&mut kubectl(&namespace))?;
    Ok(checks.count)
}

/// Removes what an earlier run of the commands, or of the tests, installed under the same names.
fn remove_release() -> Result<()> {
    let mut helm = Command::new(folder().join("bin/helm"));
    helm.env("KUBECONFIG", folder().join("admin.kubeconfig"));
    helm.args(["uninstall", "larder", "--namespace", "larder-system", "--ignore-not-found"]);
    command::output(helm.arg("--wait"))?;
    let mut delete = kubectl(&["delete", "namespace", "shop", "--ignore-not-found"]);
    command::output(delete.arg("--timeout=120s")).map(drop)
}

/// The commands of the sections' console blocks.
fn commands(readme: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for section in SECTIONS {
        let lines = readme.lines().skip_while(|line| *line != section).skip(1);
        let mut in_block = false;
        for line in lines.take_while(|line| !line.starts_with("## ")) {
            if line.starts_with("```") {
                in_block = line == "```console";
            } else if let Some(command) = line.strip_prefix("$ ").filter(|_| in_block) {
                commands.push(command.to_owned());
            }
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_console_blocks_of_the_two_sections_are_read_in_order() {
        let readme = "# R\n```console\n$ cargo xtask up\n```\n\
            ## A throw-away Kubernetes\ntext\n```console\n$ first\n```\n`$ no`\n$ outside\n\
            ## On a Kubernetes of your own\n```console\n$ second\noutput\n$ third\n```\n\
            ```yaml\n$ not: console\n```\n## Else\n```console\n$ other\n```\n";
        assert_eq!(commands(readme), ["first", "second", "third"]);
    }

    #[test]
    fn the_real_readme_has_commands_in_both_sections() {
        let readme = fs::read_to_string(workspace::root().join("README.md")).expect("README");
        let commands = commands(&readme);
        assert!(commands.iter().any(|line| line.starts_with("eval ")), "{commands:?}");
        assert!(commands.iter().any(|line| line.starts_with("helm install ")), "{commands:?}");
    }
}
