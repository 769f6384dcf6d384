//! `larder up`: a whole cluster in this process, on loopback.
//!
//! The same resources, schema, rules, builders and members as on Kubernetes; the embedded registry
//! replaces etcd, and a SQLite demo table replaces databases whose URL was not given. It writes
//! nothing outside its data folder and a temporary one.
//!
//! Order: the plan, the ports, the databases; then the registry, the contracts, the members; then
//! the text for the user. What is wrong with the input is found before anything is started. After
//! that, edits of the file are applied as they are made.

mod banner;
mod cluster;
mod contracts;
mod databases;
mod demo;
mod edits;
mod live;
mod members;
mod plan;
mod ports;
mod screen;
mod secrets;

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{ArgAction, Args};
use larder_runtime::log;
use similar::TextDiff;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::cluster::Cluster;
use self::databases::Urls;
use self::edits::Edits;
use self::live::Live;
use self::plan::{MAX_MEMBERS, Plan};
use self::screen::Screen;
use self::secrets::GivenSecret;
use crate::exit::{self, BadConfiguration, one_line};
use crate::input::{self, STDIN};
use crate::output::{Output, Report};
use crate::signals::run_until_stopped;

/// Where the sample is in a checkout.
const SAMPLE_FILE: &str = "manifests/examples/shop.yaml";
/// The sample, for a program that is started elsewhere.
const SAMPLE: &str = include_str!("../../manifests/examples/shop.yaml");

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// File with one CacheCluster and its CacheGroups, - for standard input [default: the sample]
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Apply edits of the file while it runs, printing what changed; an edit with an error is
    /// refused and changes nothing
    #[arg(
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true"
    )]
    watch: bool,

    /// Value of a Secret that a CacheGroup refers to, from a file (students-db/url=@FILE), from
    /// the environment (students-db/url=env:VARIABLE), or as it is, which shows it in the list of
    /// processes; may be repeated
    #[arg(long, value_name = "NAME/KEY=@FILE")]
    secret: Vec<GivenSecret>,

    /// Members to run, in place of spec.members; at most 16
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u8).range(1..=MAX_MEMBERS as i64)
    )]
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

    #[command(flatten)]
    pub(crate) output: Output,
}

/// The resources as they were read.
struct Input {
    /// How messages name it.
    name: String,
    text: String,
    /// The file to watch; nothing for standard input and the built-in sample.
    path: Option<PathBuf>,
}

/// A cluster at work, and everything that an edit needs.
struct Session<'a> {
    up: &'a Up,
    urls: Urls,
    screen: Screen,
    /// The input that is applied.
    input: Input,
    cluster: Cluster,
}

impl Up {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let screen = Screen::new(self.output.structured().is_some());
        log::init_to(log::Format::Text, &self.log, screen.clone())
            .map_err(|e| BadConfiguration(e.to_string()))?;
        // Before signals are caught: a read of standard input may never end.
        let input = self.input()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("no runtime")?;
        let stop = CancellationToken::new();
        let serve = self.serve(input, &screen, &stop);
        let ended = runtime.block_on(run_until_stopped(&stop, serve));
        screen.end();
        // A query of a database may still run on a thread of its own.
        runtime.shutdown_background();
        match ended.context("signals cannot be caught")? {
            Ok(served) => served.map(|()| Report::printed(exit::OK)),
            Err(code) => Ok(Report::printed(code)),
        }
    }

    async fn serve(
        &self,
        input: Input,
        screen: &Screen,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let plan = self.plan(&input)?;
        let urls = Urls { given: self.secret.clone(), data: self.data_directory() };
        urls.check(&plan)?;
        urls.warnings().chain(plan.notes.iter().cloned()).for_each(|line| screen.note(&line));
        let cluster = tokio::select! {
            started = Cluster::start(plan, &urls, self.port_base) => started?,
            () = stop.cancelled() => return Ok(()),
        };
        let mut session = Session { up: self, urls, screen: screen.clone(), input, cluster };
        let served = session.run(stop).await;
        screen.end();
        // Requests in flight are finished even when standard output is closed.
        _ = screen.print("\nstopping: requests in flight are finished\n");
        session.cluster.drain().await;
        served?;
        screen.print("stopped\n")
    }

    fn plan(&self, input: &Input) -> Result<Plan, BadConfiguration> {
        Plan::read(&input.name, &input.text, self.members.map(usize::from))
    }

    fn input(&self) -> anyhow::Result<Input> {
        let path = match &self.file {
            Some(path) => path.as_path(),
            None if Path::new(SAMPLE_FILE).exists() => Path::new(SAMPLE_FILE),
            None => {
                let name = "the built-in sample".to_owned();
                return Ok(Input { name, text: SAMPLE.into(), path: None });
            }
        };
        let (name, text) = input::read(path)?;
        let path = (path != Path::new(STDIN)).then(|| path.to_owned());
        Ok(Input { name, text, path })
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

impl Session<'_> {
    /// Shows the live line and applies edits until `stop` is cancelled.
    async fn run(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let watched = self.input.path.clone().filter(|_| self.up.watch);
        let report = banner::started(&self.cluster, watched.is_some().then_some(&self.input.name));
        report.print("up", self.up.output.structured())?;
        let mut edits = watched.map(|path| Edits::new(path, self.input.text.clone()));
        let mut live = Live::default();
        let mut client = self.cluster.members.client()?;
        let mut ticks = interval(self.screen.interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => live.update(&client, &self.screen).await?,
                edit = next(&mut edits) => {
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        ended = self.edited(edit) => ended?,
                    }
                    client = self.cluster.members.client()?;
                }
            }
        }
    }

    /// Applies an edit, or says why not.
    async fn edited(&mut self, edit: Result<String, String>) -> anyhow::Result<()> {
        let name = self.input.name.clone();
        let text = match edit {
            Ok(text) => text,
            Err(error) => {
                self.screen.note(&format!("{name} cannot be read: {error}; nothing is changed"));
                return Ok(());
            }
        };
        let diff = TextDiff::from_lines(&self.input.text, &text);
        let diff = diff.unified_diff().context_radius(1).header("applied", &name).to_string();
        self.screen.print(&format!("\n{diff}"))?;
        let edited = Input { name, text, path: self.input.path.clone() };
        match self.apply(&edited).await {
            Ok(changes) if changes.is_empty() => self.screen.print("nothing to apply\n")?,
            Ok(changes) => self.screen.print(&format!("applied: {}\n", changes.join("; ")))?,
            Err(error) => {
                self.screen.note(&format!("refused: {}", one_line(&error)));
                return Ok(());
            }
        }
        self.input = edited;
        Ok(())
    }

    async fn apply(&mut self, edited: &Input) -> anyhow::Result<Vec<String>> {
        let plan = self.up.plan(edited)?;
        plan.notes.iter().for_each(|line| self.screen.note(line));
        self.cluster.apply(plan, &self.urls, self.up.port_base).await
    }
}

async fn next(edits: &mut Option<Edits>) -> Result<String, String> {
    match edits {
        Some(edits) => edits.next().await,
        None => std::future::pending().await,
    }
}
