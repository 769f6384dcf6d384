//! Values from a row of a SQL database: PostgreSQL, MySQL or SQLite, told apart by the URL.
//!
//! The key is always a bound parameter. The value is the first column of the first row:
//!
//! | | value |
//! | --- | --- |
//! | no row, or NULL | absent |
//! | `bytea`, `BLOB`, text, JSON | its bytes |
//! | PostgreSQL, any other type | the server's own text form (`value::text`) |
//! | MySQL, integers, floats, decimals | decimal text; dates: cast them in the query |
//! | SQLite, `INTEGER`, `REAL` | decimal text |
//!
//! A key that the parameter's type cannot hold (`abc` for an integer, bytes that are no UTF-8 for
//! a text) has no row, so it is absent, without an error of the database. The credential is read
//! again when its file changes; TLS is asked for in the URL (`sslmode=verify-full`).

mod connections;
mod mysql;
mod postgres;
mod problem;
mod sqlite;
mod statement;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use larder_proto::contract::{OriginLimits, SqlOrigin};
use larder_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

use self::mysql::MySqlSource;
use self::postgres::PostgresSource;
use self::sqlite::SqliteSource;
use self::statement::Statement;
use super::{Credentials, Error, Loaded, Loader};

/// How often the credential's file is looked at while loads come.
const RECHECK: Duration = Duration::from_secs(1);

/// Loads keys by a query.
pub struct SqlLoader {
    statement: Statement,
    url_file: String,
    credentials: Credentials,
    limits: OriginLimits,
    max_value_bytes: usize,
    current: Mutex<Option<Current>>,
}

/// The database that the credential names now.
struct Current {
    url: String,
    checked: Instant,
    source: Arc<Source>,
}

enum Source {
    Postgres(PostgresSource),
    MySql(MySqlSource),
    Sqlite(SqliteSource),
}

impl Source {
    /// Opens a connection and lets the server read the query.
    async fn warm(&self) -> Result<(), Error> {
        match self {
            Self::Postgres(postgres) => postgres.warm().await,
            Self::MySql(mysql) => mysql.warm().await,
            Self::Sqlite(sqlite) => sqlite.warm().await,
        }
    }
}

impl SqlLoader {
    /// A loader of what `origin` describes. Connects to nothing yet.
    ///
    /// # Errors
    /// The query does not have exactly one parameter.
    pub fn new(
        origin: &SqlOrigin,
        limits: &OriginLimits,
        credentials: &Credentials,
        max_value_bytes: usize,
    ) -> Result<Self, Error> {
        Ok(Self {
            statement: Statement::parse(&origin.query)?,
            url_file: origin.url_file.clone(),
            credentials: credentials.clone(),
            limits: limits.clone(),
            max_value_bytes,
            current: Mutex::new(None),
        })
    }

    /// The database to ask, anew when the credential changed. The file is small and in memory, so
    /// it is read under the lock: two loads never connect twice.
    fn source(&self) -> Result<Arc<Source>, Error> {
        let mut current = self.current.lock();
        if let Some(current) = current.as_mut()
            && current.checked.elapsed() >= RECHECK
        {
            current.checked = Instant::now();
            match self.credentials.read(&self.url_file) {
                Ok(url) if url == current.url => {}
                Ok(url) => {
                    // The old connections close when their last load is done.
                    current.source = Arc::new(self.open(&url)?);
                    current.url = url;
                    tracing::info!(file = self.url_file, "credential changed, connecting anew");
                }
                // Half-written or taken away: what worked until now may work on.
                Err(error) => tracing::warn!(%error, "credential not checked"),
            }
        }
        if let Some(current) = &*current {
            return Ok(Arc::clone(&current.source));
        }
        let url = self.credentials.read(&self.url_file)?;
        let source = Arc::new(self.open(&url)?);
        let checked = Instant::now();
        *current = Some(Current { url, checked, source: Arc::clone(&source) });
        Ok(source)
    }

    fn open(&self, url: &str) -> Result<Source, Error> {
        let refuse = |problem| Error::Url { file: self.url_file.clone(), problem };
        let (scheme, _) = url.split_once(':').ok_or_else(|| refuse("it is not a URL"))?;
        let (statement, limits) = (&self.statement, &self.limits);
        match scheme {
            "postgres" | "postgresql" => PostgresSource::open(url, statement, limits)
                .map(Source::Postgres)
                .ok_or_else(|| refuse("it is not a PostgreSQL URL")),
            "mysql" | "mariadb" => MySqlSource::open(url, statement, limits)
                .map(Source::MySql)
                .ok_or_else(|| refuse("it is not a MySQL URL")),
            "sqlite" => SqliteSource::open(url, statement, limits)
                .map(Source::Sqlite)
                .ok_or_else(|| refuse("it is not a SQLite URL")),
            _ => Err(refuse("its scheme is none of postgres, mysql and sqlite")),
        }
    }

    async fn ask(&self, key: &[u8]) -> Result<Loaded, Error> {
        let source = self.source()?;
        let value = match &*source {
            Source::Postgres(postgres) => postgres.load(key).await?,
            Source::MySql(mysql) => mysql.load(key).await?,
            Source::Sqlite(sqlite) => sqlite.load(key).await?,
        };
        match value {
            None => Ok(Loaded::Absent),
            Some(value) if value.len() > self.max_value_bytes => {
                Err(Error::TooLarge { max: self.max_value_bytes })
            }
            Some(value) => Ok(Loaded::Value(Bytes::from(value))),
        }
    }
}

impl Loader for SqlLoader {
    fn load<'l>(&'l self, key: &'l [u8]) -> BoxFuture<'l, Result<Loaded, Error>> {
        self.ask(key).boxed()
    }

    fn warm(&self) {
        let warmed = self.source().map(|source| {
            let tasks = Tasks::new(Handle::current());
            tasks.spawn("warm", async move {
                if let Err(error) = source.warm().await {
                    tracing::warn!(%error, "an origin's first loads will fail");
                }
            });
        });
        if let Err(error) = warmed {
            tracing::warn!(%error, "an origin's first loads will fail");
        }
    }

    fn pending(&self) -> Option<String> {
        let source = self.current.lock().as_ref()?.source.clone();
        match &*source {
            Source::Postgres(postgres) => postgres.pending(),
            Source::MySql(mysql) => mysql.pending(),
            Source::Sqlite(_) => None,
        }
    }
}

impl std::fmt::Debug for SqlLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlLoader").field("url_file", &self.url_file).finish_non_exhaustive()
    }
}

/// A value that cannot be taken from its row.
fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Ask { problem: error.to_string() }
}

#[cfg(test)]
mod tests;
