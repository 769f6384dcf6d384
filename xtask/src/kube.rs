//! `cargo xtask kube`: a real Kubernetes on this machine, to be thrown away.
//!
//! Each node is a network namespace, a mount namespace and a control group; the control plane
//! shares node 1's network. [`plan`], [`process`], [`settings`] and [`pki`] say as data what there
//! is to be; [`up`] and [`down`] do it. Nothing of it can be reached from outside, and nothing is
//! left after `down`: see [`record`] and [`ownership`] for what makes sure of that.

mod cgroup;
mod down;
mod network;
mod ownership;
mod pki;
mod plan;
mod power;
mod process;
mod record;
mod settings;
mod start;
mod status;
mod up;

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::tools::{self, Tool};
use crate::workspace;
use plan::{Node, Plan};
use process::Place;

/// `cargo xtask kube`
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Makes a cluster and waits until its nodes are Ready.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
        /// Leaves a cluster that failed to start as it is, for a look at it.
        #[arg(long)]
        keep: bool,
    },
    /// Removes the cluster and every trace of it, also one that stopped half-way.
    Down {
        /// The folder of the clone that made the cluster, when that was another one.
        #[arg(long)]
        made_by: Option<PathBuf>,
    },
    /// Shows what stands and what runs.
    Status,
    /// Prints shell commands that give this shell a kubectl: eval "$(cargo xtask kube env)"
    Env,
    /// Puts images (docker-archives) into every node.
    Load {
        /// The archives.
        #[arg(required = true)]
        images: Vec<PathBuf>,
    },
    /// Runs a command inside a node's network, where pods and services can be reached. It ends
    /// with the node.
    Exec {
        /// Which node's.
        #[arg(long, default_value_t = 1)]
        node: u8,
        /// The command with its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Kills a node with all its pods and pulls its cable.
    StopNode {
        /// Which one.
        node: u8,
    },
    /// Starts a killed node again and waits until it is Ready.
    StartNode {
        /// Which one.
        node: u8,
    },
}

/// Does what the verb says.
///
/// # Errors
/// One line that says what is wrong.
pub(crate) fn run(args: Args) -> Result<()> {
    let began = Instant::now();
    let took = |what: &str| println!("{what} in {:.1} s", began.elapsed().as_secs_f64());
    match args.verb {
        Verb::Up { nodes, keep } => up::up(nodes, keep)?,
        Verb::Down { made_by } => {
            if down::down(made_by.as_deref().unwrap_or(workspace::root()))? {
                took("down");
            } else {
                println!("no cluster stands here");
            }
        }
        Verb::Status => status::status()?,
        Verb::Env => env()?,
        Verb::Load { images } => {
            load(&images)?;
            took("loaded");
        }
        Verb::Exec { node, command } => return Err(exec(node, &command)?),
        Verb::StopNode { node } => power::stop(node)?,
        Verb::StartNode { node } => {
            power::start(node)?;
            took("Ready again");
        }
    }
    Ok(())
}

/// Puts images into every node of the standing cluster.
///
/// # Errors
/// When there is no cluster, or containerd refuses an image.
pub(crate) fn load(images: &[PathBuf]) -> Result<()> {
    let plan = standing()?;
    for image in images {
        let image = image.canonicalize().with_context(|| format!("find {}", image.display()))?;
        for node in &plan.nodes {
            start::load(*node, &image)?;
        }
    }
    Ok(())
}

fn standing() -> Result<Plan> {
    match ownership::ours(workspace::root())? {
        Some(owner) => Ok(Plan::new(owner.nodes)),
        None => bail!("no cluster stands here: cargo xtask kube up"),
    }
}

fn env() -> Result<()> {
    let plan = standing()?;
    for tool in [Tool::Helm, Tool::Grpcurl, Tool::Etcdctl] {
        if let Some(path) = tools::built(tool) {
            up::write_wrapper(&plan, tool.name(), &format!("'{}'", path.display()))?;
        }
    }
    println!("export KUBECONFIG='{}'", plan.kubeconfig().display());
    println!("export PATH='{}':\"$PATH\"", plan.shown.join("bin").display());
    Ok(())
}

/// Becomes the command; returns only when that failed.
fn exec(number: u8, command: &[String]) -> Result<anyhow::Error> {
    let plan = standing()?;
    let node = Node { number };
    if !plan.nodes.contains(&node) {
        bail!("there is no node {number}");
    }
    let hierarchies = cgroup::hierarchies()?;
    let place = Place::Network(node);
    let line = process::join(place, &cgroup::tracking(&hierarchies).root);
    let mut shell = Command::new(&line[0]);
    shell.args(&line[1..]).arg("nsenter").args(place.enter()).arg("--").args(command);
    shell.env("KUBECONFIG", plan.kubeconfig());
    Ok(shell.exec().into())
}
