//! `larder up`: a whole cluster in this process, on loopback.
//!
//! The same resources, schema, rules, builders and members as on Kubernetes; in place of etcd the
//! embedded registry, in place of Secrets that are not here a SQLite demo table. It writes
//! nothing outside its data folder and a temporary one.
//!
//! Order: the plan, the ports, the databases; then the registry, the contracts, the members; then
//! the words to the user. What is wrong with the input is told before anything is started.

mod contracts;
mod databases;
mod demo;
mod live;
mod members;
mod plan;
mod ports;
mod words;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use larder_registry::{EmbeddedRegistry, RegistryOptions};
use larder_runtime::drain::Shutdown;
use larder_runtime::log;
use larder_runtime::tasks::Tasks;
use tokio::runtime::Handle;

use self::databases::{Databases, GivenSecret};
use self::live::Live;
use self::members::Members;
use self::plan::Plan;
use crate::exit::BadConfiguration;
use crate::output::{note, print};

/// Where the sample lies in a checkout.
const SAMPLE_FILE: &str = "manifests/examples/shop.yaml";
/// The sample, for those who start the program elsewhere.
const SAMPLE: &str = include_str!("../../manifests/examples/shop.yaml");
/// The registry's tasks end at once when told to.
const REGISTRY_GRACE: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// File with one CacheCluster and its CacheGroups; the sample, unless named
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,

    /// A Secret's value that a CacheGroup refers to, such as
    /// students-db/url=postgres://user:password@host/students; may be repeated
    #[arg(long, value_name = "NAME/KEY=VALUE")]
    secret: Vec<GivenSecret>,

    /// Members to run, in place of spec.members; at most 16
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    members: Option<u8>,

    /// First port of the first member; each further member's are 100 higher. 0 takes free ones
    #[arg(long, value_name = "PORT", default_value = "7600")]
    port_base: u16,

    /// Folder of the demo database [default: larder in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// What the members log to standard error, such as info or larder_node=debug
    #[arg(
        long,
        value_name = "FILTER",
        env = "LARDER_LOG",
        hide_env_values = true,
        default_value = "warn"
    )]
    log: String,
}

impl Up {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("no runtime")?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> anyhow::Result<ExitCode> {
        log::init(log::Format::Text, &self.log).map_err(|e| BadConfiguration(e.to_string()))?;
        let mut stop = pin!(Shutdown::on_signals().context("signals not listened to")?.wait());
        let (file, text) = self.text()?;
        let plan = Plan::read(&file, &text, self.members.map(usize::from))?;
        let listen = ports::choose(self.port_base, plan.members)?;
        plan.notes.iter().for_each(|line| note(line));
        let databases = Databases::prepare(&plan, &self.secret, &self.data_directory()).await?;

        let tasks = Tasks::new(Handle::current());
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = larder_runtime::net::listen(free, false).context("no port is free")?;
        let registry = EmbeddedRegistry::start(listener, RegistryOptions::default(), &tasks)?;
        let endpoint = registry.endpoint();
        contracts::write(&endpoint, &plan).await?;
        let members = Members::start(&plan, listen, &endpoint, databases.directory()).await?;

        let served = tokio::select! {
            ended = serve(&plan, &databases, &endpoint, &members) => ended,
            () = &mut stop => Ok(()),
        };
        if served.is_ok() {
            print("\nstopping: requests in flight are finished\n")?;
        }
        members.drain().await;
        // Nothing waits for the registry any more.
        _ = tasks.stop(REGISTRY_GRACE).await;
        served?;
        print("stopped\n")?;
        Ok(ExitCode::SUCCESS)
    }

    /// The resources' text and the name under which to speak of it.
    fn text(&self) -> anyhow::Result<(String, String)> {
        let path = match &self.file {
            Some(path) => path.as_path(),
            None if Path::new(SAMPLE_FILE).exists() => Path::new(SAMPLE_FILE),
            None => return Ok(("the built-in sample".into(), SAMPLE.into())),
        };
        let text = std::fs::read_to_string(path).map_err(|error| {
            BadConfiguration(format!("{} cannot be read: {error}", path.display()))
        })?;
        Ok((path.display().to_string(), text))
    }

    fn data_directory(&self) -> PathBuf {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        self.data.clone().unwrap_or_else(|| {
            let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")));
            cache.unwrap_or_else(std::env::temp_dir).join("larder")
        })
    }
}

/// From started members to the end: only an error ends it.
async fn serve(
    plan: &Plan,
    databases: &Databases,
    registry: &str,
    members: &Members,
) -> anyhow::Result<()> {
    let client = members.client()?;
    members.wait_until_joined(&client, plan).await?;
    print(words::started(plan, databases, registry, members.addresses()))?;
    Live::new(client).run().await
}
