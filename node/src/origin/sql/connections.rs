//! The connections to one database: a pool of `bb8`, which opens them in tasks of their own.
//!
//! Not sqlx's own pool. That one opens a connection inside the load that needs it, so a member
//! that is slow to connect aborts and repeats its connects for ever; it asks a server that refuses
//! connections again until the time is over, and then tells only that time was over; and it asks
//! the server once more before every use.
//!
//! # Guarantees
//! - Never more than `max` connections, with those that are being opened and those that still
//!   finish a query that nobody waits for.
//! - An opening goes on when its load has ended, and serves the next. It ends within
//!   [`CONNECT_LIMIT`].
//! - An opening that fails tells its cause to every load that waits for one.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use bb8::{ErrorSink, ManageConnection, Pool, PooledConnection, RunError};
use larder_runtime::tasks::Tasks;
use parking_lot::Mutex;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::problem;
use crate::origin::Error;

/// Longest time that the opening of a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Connections that are idle longer are closed.
const IDLE_LIMIT: Duration = Duration::from_secs(300);
/// Connections that were idle longer are tried before they are used.
const DOUBTFUL: Duration = Duration::from_secs(5);
/// How long the query of a load that gave up may go on before its connection is closed.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Connections<C: Connection + 'static> {
    pool: Pool<Manager<C>>,
    failures: Failures,
    tasks: Tasks,
    place: String,
}

/// Opens connections for the pool, and says which are of no more use.
struct Manager<C: Connection> {
    options: C::Options,
    /// When a connection broke: its server was stopped, and those that are idle since before are
    /// likely of no more use.
    broke: Mutex<Option<Instant>>,
}

/// The latest opening that failed. bb8 tells errors to its sink, not to those who wait.
#[derive(Debug, Clone)]
struct Failures(watch::Sender<Option<Arc<sqlx::Error>>>);

/// What the pool hears of.
#[derive(Debug)]
enum Trouble {
    /// No new connection.
    Connect(sqlx::Error),
    /// An idle connection broke; the pool takes another one.
    Stale,
}

/// One connection of the pool.
struct Pooled<C> {
    connection: C,
    used: Instant,
    broken: bool,
}

/// A connection in use. Dropped before [`Lease::settle`] its query goes on, and the connection is
/// kept once the server is done with it.
pub(super) struct Lease<C: Connection + 'static> {
    /// Nothing once it is settled.
    pooled: Option<PooledConnection<'static, Manager<C>>>,
    tasks: Tasks,
    place: String,
}

impl<C: Connection + 'static> Connections<C> {
    /// No connection yet. Must be called on a runtime: openings run there.
    pub(super) fn new(options: C::Options, place: String, max: u32) -> Self {
        let failures = Failures(watch::Sender::new(None));
        let pool = Pool::builder()
            .max_size(max.max(1))
            .connection_timeout(CONNECT_LIMIT)
            .idle_timeout(IDLE_LIMIT)
            .max_lifetime(None)
            .queue_strategy(bb8::QueueStrategy::Lifo)
            .retry_connection(false)
            .error_sink(failures.boxed_clone())
            .build_unchecked(Manager { options, broke: Mutex::new(None) });
        Self { pool, failures, tasks: Tasks::new(tokio::runtime::Handle::current()), place }
    }

    /// A connection for one load.
    ///
    /// # Errors
    /// Why a new connection could not be opened.
    ///
    /// # Cancel safety
    /// Safe: what is being opened serves the next load.
    pub(super) async fn take(&self) -> Result<Lease<C>, Error> {
        let mut failures = self.failures.0.subscribe();
        let taken = tokio::select! {
            taken = self.pool.get_owned() => taken,
            Ok(()) = failures.changed() => {
                let failure = failures.borrow().clone().expect("only failures are sent");
                return Err(problem::connecting(&self.place, &failure));
            }
        };
        match taken {
            Ok(pooled) => Ok(Lease {
                pooled: Some(pooled),
                tasks: self.tasks.clone(),
                place: self.place.clone(),
            }),
            Err(RunError::User(Trouble::Connect(error))) => {
                Err(problem::connecting(&self.place, &error))
            }
            Err(RunError::User(Trouble::Stale) | RunError::TimedOut) => {
                Err(problem::silent(&self.place, CONNECT_LIMIT))
            }
        }
    }

    /// What a load waits for that did not end in time; nothing when it is the database's answer.
    pub(super) fn pending(&self) -> Option<String> {
        let none = self.pool.state().connections == 0;
        none.then(|| format!("no connection to {} was made", self.place))
    }
}

impl<C: Connection + 'static> ManageConnection for Manager<C> {
    type Connection = Pooled<C>;
    type Error = Trouble;

    async fn connect(&self) -> Result<Pooled<C>, Trouble> {
        let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        let opened = timeout(CONNECT_LIMIT, self.options.connect()).await;
        let connection = opened.unwrap_or_else(|_| Err(silent())).map_err(Trouble::Connect)?;
        Ok(Pooled { connection, used: Instant::now(), broken: false })
    }

    async fn is_valid(&self, pooled: &mut Pooled<C>) -> Result<(), Trouble> {
        let doubted = self.broke.lock().is_some_and(|broke| pooled.used < broke);
        if !doubted && pooled.used.elapsed() < DOUBTFUL {
            return Ok(());
        }
        pooled.connection.ping().await.map_err(|_| Trouble::Stale)
    }

    fn has_broken(&self, pooled: &mut Pooled<C>) -> bool {
        if pooled.broken {
            *self.broke.lock() = Some(Instant::now());
        }
        pooled.broken
    }
}

impl ErrorSink<Trouble> for Failures {
    fn sink(&self, trouble: Trouble) {
        if let Trouble::Connect(error) = trouble {
            self.0.send_replace(Some(Arc::new(error)));
        }
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<Trouble>> {
        Box::new(self.clone())
    }
}

impl<C: Connection + 'static> Lease<C> {
    /// Gives the connection back after its use: kept unless the use broke it.
    pub(super) fn settle<T>(mut self, used: Result<T, sqlx::Error>) -> Result<T, Error> {
        let mut pooled = self.pooled.take().expect("settled once");
        pooled.used = Instant::now();
        pooled.broken = used.as_ref().is_err_and(problem::breaks);
        used.map_err(|error| problem::asking(&self.place, &error))
    }
}

impl<C: Connection + 'static> Drop for Lease<C> {
    fn drop(&mut self) {
        let Some(mut pooled) = self.pooled.take() else { return };
        // Closing it would not end the query: the server would work for one load more than may.
        self.tasks.spawn("finish", async move {
            let finished = timeout(FINISH_LIMIT, pooled.connection.ping()).await;
            pooled.broken = !matches!(finished, Ok(Ok(())));
        });
    }
}

impl<C: Connection + 'static> Deref for Lease<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.pooled.as_ref().expect("not settled").connection
    }
}

impl<C: Connection + 'static> DerefMut for Lease<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.pooled.as_mut().expect("not settled").connection
    }
}
