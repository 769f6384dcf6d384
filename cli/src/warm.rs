//! `larder warm`: reads keys so that they are cached before applications ask for them.
//!
//! The members load them as for any read, through the same limits of the origin. A load that they
//! refuse for overload is a sign that applications need the origin: every read of this command
//! pauses for the time that the member asked for, then the key is tried again.

mod list;
mod tally;

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use futures::{StreamExt as _, stream};
use larder_client::{Client, Error};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use self::tally::{Fate, Tally};
use crate::connect::{Connection, runtime, seconds};
use crate::exit::{self, BadConfiguration};
use crate::hot;
use crate::keys::KeyFlags;
use crate::members::Answers;
use crate::output::{Output, Report};
use crate::progress;
use crate::signals::run_until_stopped;
use crate::table::terminal_width;

/// A key that is refused for overload for this long has failed.
const REFUSED_LIMIT: Duration = Duration::from_secs(60);
/// Bounds of the pause after a refusal, whatever the member asked for.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Warm {
    /// Name of the CacheGroup, alone or with the key
    #[arg(value_name = "GROUP[/KEY]")]
    group: OsString,

    /// The keys; without any and without --from, the keys that are asked for most
    #[arg(value_name = "KEY")]
    keys: Vec<OsString>,

    #[command(flatten)]
    key_flags: KeyFlags,

    /// A file with one key a line; - reads standard input; empty lines are skipped
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// The lines of --from are base64, for keys that are not text or contain line ends
    #[arg(long, requires = "from")]
    from_base64: bool,

    /// Load the keys that are asked for most in another cluster, at most 100 of each member
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        conflicts_with_all = ["keys", "key_base64", "key_file", "from"]
    )]
    hot_of: Option<String>,

    /// Keys in flight at most; the origin's other loads are those of applications
    #[arg(
        long,
        short,
        default_value = "8",
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=256)
    )]
    concurrency: u32,

    /// Seconds after which to stop, done or not [default: until every key was read]
    #[arg(long, short, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,

    #[command(flatten)]
    pub(crate) output: Output,

    #[command(flatten)]
    connection: Connection,
}

/// One run over a list of keys.
struct Run {
    client: Client,
    group: String,
    /// No read starts earlier.
    resume: Cell<Instant>,
    tally: RefCell<Tally>,
}

impl Warm {
    pub(crate) fn run(self) -> anyhow::Result<Report> {
        let target = self.key_flags.target(&self.group, &self.keys)?;
        let mut keys = target.keys;
        if let Some(path) = &self.from {
            keys.extend(list::read(path, self.from_base64)?);
        }
        let stop = CancellationToken::new();
        let run = self.warm(target.group, keys, &stop);
        let ended = runtime()?.block_on(run_until_stopped(&stop, run));
        match ended.context("signals cannot be caught")? {
            Ok(report) => report,
            Err(code) => Ok(Report::printed(code)),
        }
    }

    async fn warm(
        &self,
        group: String,
        mut keys: Vec<Bytes>,
        stop: &CancellationToken,
    ) -> anyhow::Result<Report> {
        let client = self.connection.client()?;
        let mut note = None;
        if keys.is_empty() {
            if self.from.is_some() {
                return Err(BadConfiguration("--from has no key".into()).into());
            }
            (keys, note) = self.hot_keys(&group).await?;
        }
        let total = keys.len() as u64;
        let resume = Cell::new(Instant::now());
        let run = Run { client, group, resume, tally: RefCell::new(Tally::new(total)) };
        let began = Instant::now();
        let work = timeout(
            self.duration.unwrap_or(Duration::MAX),
            run.all(keys, self.concurrency as usize),
        );
        let interrupted = tokio::select! {
            ended = work => match ended {
                Ok(ended) => { ended?; false }
                Err(_) => true,
            },
            () = stop.cancelled() => true,
            never = progress::show(|| run.tally.borrow().progress()) => never,
        };
        let tally = run.tally.into_inner();
        let code = if tally.is_complete() { exit::OK } else { exit::FAILURE };
        let text = tally.text(&run.group, began.elapsed(), interrupted, terminal_width());
        let result = tally.json(&run.group, began.elapsed(), interrupted);
        Ok(Report::new(text, result).code(code).notes(note))
    }

    /// The group's hot keys, the hottest first, and a line about members that did not answer.
    async fn hot_keys(&self, group: &str) -> anyhow::Result<(Vec<Bytes>, Option<String>)> {
        let client = match &self.hot_of {
            Some(endpoint) => self.connection.cluster_at(endpoint)?,
            None => self.connection.cluster()?,
        };
        let all = Answers::of(client.hot_keys(Some(group), hot::MAX_KEYS).await?)?;
        let note = all.note();
        let keys = all.answers.into_iter().flat_map(|answer| answer.keys);
        let keys = hot::merged(keys, usize::MAX).into_iter().map(|hot| hot.key);
        Ok((keys.collect(), note))
    }
}

impl Run {
    /// Reads every key once.
    ///
    /// # Errors
    /// One that every other key would meet too.
    ///
    /// # Cancel safety
    /// The tally has what was read. Loads that have begun continue at the members.
    async fn all(&self, keys: Vec<Bytes>, concurrency: usize) -> Result<(), Error> {
        let reads = stream::iter(keys).map(|key| self.read(key));
        let mut fates = reads.buffer_unordered(concurrency);
        while let Some(fate) = fates.next().await {
            self.tally.borrow_mut().record(fate?);
        }
        Ok(())
    }

    async fn read(&self, key: Bytes) -> Result<Fate, Error> {
        let limit = Instant::now() + REFUSED_LIMIT;
        loop {
            // Another refusal may have come during the sleep.
            while self.resume.get() > Instant::now() {
                sleep_until(self.resume.get()).await;
            }
            let error = match self.client.explain(&self.group, &key).await {
                Ok(answer) => return Ok(Fate::of(&answer)),
                Err(error) => error,
            };
            let Some(pause) = error.retry_after().filter(|_| Instant::now() < limit) else {
                return if is_of_every_key(&error) { Err(error) } else { Ok(Fate::failed(&error)) };
            };
            self.tally.borrow_mut().refused();
            let resume = Instant::now() + pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            self.resume.set(self.resume.get().max(resume));
        }
    }
}

/// Whether the other keys would fail the same way, whatever the origin says.
fn is_of_every_key(error: &Error) -> bool {
    match error {
        Error::UnknownGroup(_) | Error::InvalidResponse { .. } => true,
        Error::Unavailable { .. } => error.answer().is_none(),
        _ => false,
    }
}
