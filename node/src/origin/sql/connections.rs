//! The connections to one database: a `bb8` pool, which opens each connection in its own task.
//!
//! sqlx's own pool does not fit. It opens a connection inside the load that needs it, so loads that
//! time out abort and repeat a slow connect forever. It retries a refused connect until the time is
//! over and then reports only a timeout. And it pings the server before every use.
//!
//! # Guarantees
//! - Never more than `max` connections, including those that are being opened and those that still
//!   run the query of an abandoned load.
//! - Opening a connection continues when its load has ended, and serves the next load. It ends
//!   within [`CONNECT_TIMEOUT`].
//! - If opening fails, every load that waits for a connection gets the cause.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use bb8::{ErrorSink, ManageConnection, Pool, PooledConnection, RunError};
use larder_runtime::tasks::Tasks;
use parking_lot::Mutex;
use sqlx::{ConnectOptions, Connection, Executor, MySqlConnection, PgConnection, SqliteConnection};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::problem;
use crate::origin::error::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections idle for longer are closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Connections idle for longer are pinged before use.
const PING_AFTER_IDLE: Duration = Duration::from_secs(5);
/// How long the query of an abandoned load may continue before its connection is closed.
const ABANDONED_QUERY_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection whose session the server can make read-only.
pub(super) trait ReadOnly: Connection + 'static {
    /// Runs after the connect, before the first query. Needs a statement only where no option of
    /// the connect does it, as PostgreSQL's and SQLite's do.
    fn make_read_only(&mut self) -> impl Future<Output = Result<(), sqlx::Error>> + Send {
        std::future::ready(Ok(()))
    }
}

/// The pool of one database. See the module.
pub(super) struct Connections<C: ReadOnly> {
    pool: Pool<Manager<C>>,
    failures: Failures,
    tasks: Tasks,
    place: String,
}

/// Opens connections for the pool and checks them.
struct Manager<C: ReadOnly> {
    options: C::Options,
    /// When a connection last broke. The server probably stopped, so connections idle since before
    /// are pinged first.
    last_break: Mutex<Option<Instant>>,
}

/// The last failure to open a connection. bb8 passes it to the sink, not to the waiting loads.
#[derive(Debug, Clone)]
struct Failures(watch::Sender<Option<Arc<sqlx::Error>>>);

/// Errors of the pool.
#[derive(Debug)]
enum PoolError {
    /// Opening a connection failed.
    Connect(sqlx::Error),
    /// An idle connection is broken. The pool takes another one.
    Stale,
}

/// A pooled connection.
struct Pooled<C> {
    connection: C,
    used: Instant,
    broken: bool,
}

/// A connection in use. If it is dropped before [`Lease::settle`], its query continues, and the
/// connection returns to the pool when the server has finished.
pub(super) struct Lease<C: ReadOnly> {
    /// `None` once settled.
    pooled: Option<PooledConnection<'static, Manager<C>>>,
    tasks: Tasks,
    place: String,
}

impl<C: ReadOnly> Connections<C> {
    /// Opens no connection yet. Must be called on a runtime, where connections are then opened.
    pub(super) fn new(options: C::Options, place: String, max: u32) -> Self {
        let failures = Failures(watch::Sender::new(None));
        let pool = Pool::builder()
            .max_size(max.max(1))
            .connection_timeout(CONNECT_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            .max_lifetime(None)
            .queue_strategy(bb8::QueueStrategy::Lifo)
            .retry_connection(false)
            .error_sink(failures.boxed_clone())
            .build_unchecked(Manager { options, last_break: Mutex::new(None) });
        Self { pool, failures, tasks: Tasks::new(tokio::runtime::Handle::current()), place }
    }

    /// A connection for one load.
    ///
    /// # Errors
    /// Opening a new connection failed.
    ///
    /// # Cancel safety
    /// Safe: a connection that is being opened serves the next load.
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
            Err(RunError::User(PoolError::Connect(error))) => {
                Err(problem::connecting(&self.place, &error))
            }
            Err(RunError::User(PoolError::Stale) | RunError::TimedOut) => {
                Err(problem::silent(&self.place, CONNECT_TIMEOUT))
            }
        }
    }

    /// Host and port, or a name without a secret.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// What loads wait for, if it is not the database's answer.
    pub(super) fn pending(&self) -> Option<String> {
        let none = self.pool.state().connections == 0;
        none.then(|| format!("no connection to {} was made", self.place))
    }
}

impl ReadOnly for PgConnection {}

impl ReadOnly for SqliteConnection {}

impl ReadOnly for MySqlConnection {
    async fn make_read_only(&mut self) -> Result<(), sqlx::Error> {
        self.execute("SET SESSION TRANSACTION READ ONLY").await.map(drop)
    }
}

impl<C: ReadOnly> ManageConnection for Manager<C> {
    type Connection = Pooled<C>;
    type Error = PoolError;

    async fn connect(&self) -> Result<Pooled<C>, PoolError> {
        let silent = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        let open = async {
            let mut connection = self.options.connect().await?;
            connection.make_read_only().await?;
            Ok(connection)
        };
        let opened = timeout(CONNECT_TIMEOUT, open).await;
        let connection = opened.unwrap_or_else(|_| Err(silent())).map_err(PoolError::Connect)?;
        Ok(Pooled { connection, used: Instant::now(), broken: false })
    }

    async fn is_valid(&self, pooled: &mut Pooled<C>) -> Result<(), PoolError> {
        let suspect = self.last_break.lock().is_some_and(|last| pooled.used < last);
        if !suspect && pooled.used.elapsed() < PING_AFTER_IDLE {
            return Ok(());
        }
        pooled.connection.ping().await.map_err(|_| PoolError::Stale)
    }

    fn has_broken(&self, pooled: &mut Pooled<C>) -> bool {
        if pooled.broken {
            *self.last_break.lock() = Some(Instant::now());
        }
        pooled.broken
    }
}

impl ErrorSink<PoolError> for Failures {
    fn sink(&self, trouble: PoolError) {
        if let PoolError::Connect(error) = trouble {
            self.0.send_replace(Some(Arc::new(error)));
        }
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<PoolError>> {
        Box::new(self.clone())
    }
}

impl<C: ReadOnly> Lease<C> {
    /// Returns the connection to the pool, unless its use broke it.
    pub(super) fn settle<T>(mut self, used: Result<T, sqlx::Error>) -> Result<T, Error> {
        let mut pooled = self.pooled.take().expect("settled once");
        pooled.used = Instant::now();
        pooled.broken = used.as_ref().is_err_and(problem::breaks);
        used.map_err(|error| problem::asking(&self.place, &error))
    }

    /// [`Lease::settle`] for a query of several keys. `None` if it failed because of a value, of a
    /// row or of one of the keys.
    pub(super) fn settle_batch<T>(self, used: Result<T, sqlx::Error>) -> Result<Option<T>, Error> {
        match used {
            Err(error) if problem::is_about_data(&error) => self.settle(Ok(None)),
            used => self.settle(used.map(Some)),
        }
    }
}

impl<C: ReadOnly> Drop for Lease<C> {
    fn drop(&mut self) {
        let Some(mut pooled) = self.pooled.take() else { return };
        // Closing the connection would not stop the query, so the server would run one query more
        // than the limit.
        self.tasks.spawn("finish query", async move {
            let finished = timeout(ABANDONED_QUERY_TIMEOUT, pooled.connection.ping()).await;
            pooled.broken = !matches!(finished, Ok(Ok(())));
        });
    }
}

impl<C: ReadOnly> Deref for Lease<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.pooled.as_ref().expect("not settled").connection
    }
}

impl<C: ReadOnly> DerefMut for Lease<C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.pooled.as_mut().expect("not settled").connection
    }
}
