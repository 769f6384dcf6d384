//! `cargo xtask kube`: a real, throw-away Kubernetes on this machine.
//!
//! Each node is a network namespace, a mount namespace and a control group; the control plane
//! shares node 1's network. [`plan`], [`process`], [`settings`] and [`pki`] describe the cluster as
//! data; [`up`] and [`down`] create and remove it. From outside, only the API server is reachable,
//! through a loopback port ([`forward`]). `down` leaves nothing behind: [`record`] and
//! [`ownership`] ensure that.

mod cgroup;
mod down;
mod forward;
mod kubectl;
mod load;
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

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
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
    /// Create a cluster and wait until its nodes are Ready
    Up {
        /// Number of nodes
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
        /// Keep a cluster that failed to start, for inspection
        #[arg(long)]
        keep: bool,
    },
    /// Remove the cluster completely, also one that started only partly
    Down {
        /// Folder of the clone that created the cluster, if it is another one
        #[arg(long)]
        made_by: Option<PathBuf>,
    },
    /// Show the cluster's processes, nodes and pods
    Status,
    /// Print shell commands that set KUBECONFIG and PATH: eval "$(cargo xtask kube env)"
    Env,
    /// Load images (docker-archives) into every node
    Load {
        /// The archives; without any, what `cargo xtask image` made
        images: Vec<PathBuf>,
    },
    /// Run a command inside a node's network, where pods and Services are reachable. It ends with
    /// the node
    Exec {
        /// Number of the node
        #[arg(long, default_value_t = 1)]
        node: u8,
        /// The command with its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Kill a node with all its pods and take its link down
    StopNode {
        /// Number of the node
        node: u8,
    },
    /// Start a killed node again and wait until it is Ready
    StartNode {
        /// Number of the node
        node: u8,
    },
    /// Forward connections of the socket on standard input; started by `up`
    #[command(hide = true)]
    Forward {
        /// The API server's address
        to: SocketAddr,
    },
}

/// Runs the verb.
///
/// # Errors
/// The error of the verb.
pub(crate) fn run(args: Args) -> Result<()> {
    let begin = Instant::now();
    let print_time = |what: &str| println!("{what} in {:.1} s", begin.elapsed().as_secs_f64());
    match args.verb {
        Verb::Up { nodes, keep } => up::up(nodes, keep)?,
        Verb::Down { made_by } => {
            if down::down(made_by.as_deref().unwrap_or(workspace::root()))? {
                print_time("down");
            } else {
                println!("there is no cluster");
            }
        }
        Verb::Status => status::status()?,
        Verb::Env => print_environment()?,
        Verb::Load { images } => {
            let images = if images.is_empty() { load::archives(&images_folder())? } else { images };
            match load(&images)?.as_slice() {
                [] => println!("every node has these images already"),
                names => print_time(&format!("loaded {}", names.join(", "))),
            }
        }
        Verb::Exec { node, command } => return Err(exec(node, &command)?),
        Verb::StopNode { node } => power::stop(node)?,
        Verb::StartNode { node } => {
            power::start(node)?;
            print_time("Ready again");
        }
        Verb::Forward { to } => forward::run(to)?,
    }
    Ok(())
}

/// Number of nodes of the running cluster, if this clone has one.
///
/// # Errors
/// As [`ownership::find`].
pub(crate) fn nodes() -> Result<Option<u8>> {
    let owner = ownership::find(workspace::root())?;
    let running =
        owner.filter(|owner| owner.stage == record::Stage::Ready && down::is_intact(owner));
    Ok(running.map(|owner| owner.nodes))
}

/// True if `kube up` has nothing to build.
pub(crate) fn is_built() -> bool {
    up::is_built()
}

/// Loads images into every node that lacks them and returns the names of those images.
///
/// # Errors
/// When there is no cluster, or containerd refuses an image.
pub(crate) fn load(images: &[PathBuf]) -> Result<Vec<String>> {
    load::into_all_nodes(&current()?, images)
}

/// Where `cargo xtask image` writes archives.
fn images_folder() -> PathBuf {
    workspace::target().join("images")
}

/// The plan of the existing cluster.
fn current() -> Result<Plan> {
    match ownership::find(workspace::root())? {
        Some(owner) => Ok(Plan::new(owner.nodes)),
        None => bail!("there is no cluster: run `cargo xtask kube up` first"),
    }
}

fn print_environment() -> Result<()> {
    let plan = current()?;
    // They talk to pods, whose addresses exist only inside the cluster's network.
    for tool in [Tool::Grpcurl, Tool::Etcdctl] {
        if let Some(path) = tools::built(tool) {
            up::write_wrapper(&plan, tool.name(), &format!("'{}'", path.display()))?;
        }
    }
    println!("export KUBECONFIG='{}'", plan.kubeconfig().display());
    println!("export PATH='{}':\"$PATH\"", plan.shown.join("bin").display());
    Ok(())
}

/// Replaces this process with the command; returns only when that fails.
fn exec(number: u8, command: &[String]) -> Result<anyhow::Error> {
    let plan = current()?;
    let node = Node { number };
    if !plan.nodes.contains(&node) {
        bail!("there is no node {number}: the cluster has {}", plan.nodes.len());
    }
    let hierarchies = cgroup::hierarchies()?;
    let place = Place::Network(node);
    let line = process::join(place, &cgroup::tracking(&hierarchies).root);
    let mut shell = Command::new(&line[0]);
    shell.args(&line[1..]).arg("nsenter").args(place.enter()).arg("--").args(command);
    shell.env("KUBECONFIG", plan.inside_kubeconfig());
    Ok(shell.exec().into())
}
