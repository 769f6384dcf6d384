//! Values from a row of a SQL database: PostgreSQL, MySQL or SQLite, selected by the URL's scheme.
//!
//! The key is always a bound parameter. The value is the first column of the first row:
//!
//! | | value |
//! | --- | --- |
//! | no row, or NULL | absent |
//! | `bytea`, `BLOB`, text, JSON | its bytes |
//! | PostgreSQL, any other type | the server's own text form (`value::text`) |
//! | MySQL, integers, floats, decimals | decimal text; dates must be cast in the query |
//! | SQLite, `INTEGER`, `REAL` | decimal text |
//!
//! With a `tagsColumn`, the column of this name has the value's tags: an array in PostgreSQL, or a
//! text in which commas or white space separate them. NULL means none.
//!
//! With a `batch`, one query loads several keys: `= ANY($1)` in PostgreSQL, `IN ($1)` or `IN (?)`
//! elsewhere, where the parameter becomes a list. Its rows have the key in `keyColumn`.
//!
//! A key that the parameter's type cannot represent (`abc` for an integer, invalid UTF-8 for text)
//! has no row, so it is absent and not an error. The credential is read again when its file
//! changes. The URL enables TLS (`sslmode=verify-full`).
//!
//! A query only reads: it must be a SELECT, and every connection's session is read-only, so that the
//! database refuses a function that writes. The credential's own rights are the limit that counts.

mod connections;
mod mysql;
mod postgres;
mod problem;
mod row;
mod sqlite;
mod statement;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use larder_proto::contract::{OriginLimits, SqlBatch, SqlOrigin};
use larder_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

use self::mysql::MySql;
use self::postgres::Postgres;
use self::row::{BatchQuery, Query, list_length, loaded};
use self::sqlite::Sqlite;
use self::statement::{Dialect, Statement};
use super::credentials::Credentials;
use super::error::Error;
use super::keyed::KeyedLoads;
use super::loader::{BatchLoader, BatchedLoad, Loaded, Loader};

/// Parameters of one query. Source: SQLite's default limit; MySQL's is larger.
const MAX_PARAMETERS: usize = 32_766;
/// How often the credential's file is checked for changes while loads run.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Loads keys by a SQL query.
pub struct SqlLoader {
    origin: SqlOrigin,
    credentials: Credentials,
    limits: OriginLimits,
    max_value_bytes: usize,
    current: Mutex<Option<Current>>,
}

/// The database that the credential names now.
struct Current {
    url: String,
    checked: Instant,
    database: Arc<Database>,
}

enum Database {
    Postgres(Postgres),
    MySql(MySql),
    Sqlite(Sqlite),
}

impl Database {
    /// Opens a connection and prepares the query.
    async fn warm(&self) -> Result<(), Error> {
        match self {
            Self::Postgres(postgres) => postgres.warm().await,
            Self::MySql(mysql) => mysql.warm().await,
            Self::Sqlite(sqlite) => sqlite.warm().await,
        }
    }
}

impl SqlLoader {
    /// A loader for `origin`. It does not connect yet.
    ///
    /// # Errors
    /// The query or the batch query does not only read, or does not have exactly one parameter, in
    /// every dialect. Whether it does in the database's own one is known with the credential.
    pub fn new(
        origin: &SqlOrigin,
        limits: &OriginLimits,
        credentials: &Credentials,
        max_value_bytes: usize,
    ) -> Result<Self, Error> {
        Dialect::any(|dialect| Statement::parse(&origin.query, dialect))?;
        if let Some(batch) = &origin.batch {
            Dialect::any(|dialect| batch_query(batch, limits, dialect))?;
        }
        Ok(Self {
            origin: origin.clone(),
            credentials: credentials.clone(),
            limits: limits.clone(),
            max_value_bytes,
            current: Mutex::new(None),
        })
    }

    /// The database of the current credential. The file is small and in memory, so it is read under
    /// the lock, which keeps concurrent loads from opening the database twice.
    fn database(&self) -> Result<Arc<Database>, Error> {
        let mut current = self.current.lock();
        if let Some(current) = current.as_mut()
            && current.checked.elapsed() >= CHECK_INTERVAL
        {
            current.checked = Instant::now();
            match self.credentials.read(&self.origin.url_file) {
                Ok(url) if url == current.url => {}
                Ok(url) => {
                    // The old connections close when their last load is done.
                    current.database = Arc::new(self.open(&url)?);
                    current.url = url;
                    tracing::info!(file = self.origin.url_file, "credential changed, reconnecting");
                }
                // Half-written or removed: the previous credential may still work.
                Err(error) => tracing::warn!(%error, "cannot check the credential for changes"),
            }
        }
        if let Some(current) = &*current {
            return Ok(Arc::clone(&current.database));
        }
        let url = self.credentials.read(&self.origin.url_file)?;
        let database = Arc::new(self.open(&url)?);
        let checked = Instant::now();
        *current = Some(Current { url, checked, database: Arc::clone(&database) });
        Ok(database)
    }

    fn open(&self, url: &str) -> Result<Database, Error> {
        let refuse = |problem| Error::Url { file: self.origin.url_file.clone(), problem };
        let (scheme, _) = url.split_once(':').ok_or_else(|| refuse("it is not a URL"))?;
        let dialect = match scheme {
            "postgres" | "postgresql" => Dialect::Postgres,
            "mysql" | "mariadb" => Dialect::MySql,
            "sqlite" => Dialect::Sqlite,
            _ => return Err(refuse("its scheme is none of postgres, mysql and sqlite")),
        };
        let (origin, limits) = (&self.origin, &self.limits);
        let batch = origin.batch.as_ref().map(|batch| batch_query(batch, limits, dialect));
        let batch = batch.transpose()?;
        let query = Query {
            statement: &Statement::parse(&origin.query, dialect)?,
            tags_column: origin.tags_column.as_deref(),
            batch: batch.as_ref(),
            max_value_bytes: self.max_value_bytes,
        };
        let concurrency = limits.concurrency;
        match dialect {
            Dialect::Postgres => Postgres::open(url, query, concurrency)
                .map(Database::Postgres)
                .ok_or_else(|| refuse("it is not a PostgreSQL URL")),
            Dialect::MySql => MySql::open(url, query, concurrency)
                .map(Database::MySql)
                .ok_or_else(|| refuse("it is not a MySQL URL")),
            Dialect::Sqlite => Sqlite::open(url, query, concurrency)
                .map(Database::Sqlite)
                .ok_or_else(|| refuse("it is not a SQLite URL")),
        }
    }

    async fn query(&self, key: &[u8]) -> Result<Loaded, Error> {
        let database = self.database()?;
        let row = match &*database {
            Database::Postgres(postgres) => postgres.load(key).await?,
            Database::MySql(mysql) => mysql.load(key).await?,
            Database::Sqlite(sqlite) => sqlite.load(key).await?,
        };
        loaded(row, self.max_value_bytes)
    }

    async fn query_batch(&self, keys: &[Bytes]) -> Result<Vec<BatchedLoad>, Error> {
        let database = self.database()?;
        let loads = KeyedLoads::new(keys);
        match &*database {
            Database::Postgres(postgres) => postgres.load_batch(keys, loads).await,
            Database::MySql(mysql) => mysql.load_batch(loads).await,
            Database::Sqlite(sqlite) => sqlite.load_batch(loads).await,
        }
    }
}

fn batch_query(
    batch: &SqlBatch,
    limits: &OriginLimits,
    dialect: Dialect,
) -> Result<BatchQuery, Error> {
    let refuse = |problem| Error::BatchStatement { problem };
    let statement = Statement::parse(&batch.query, dialect).map_err(|error| match error {
        Error::Statement { problem } => refuse(problem),
        other => other,
    })?;
    let parameters = statement.places() * list_length(limits.max_keys as usize);
    if parameters > MAX_PARAMETERS {
        let problem = format!("it would have {parameters} parameters: use the keys in one place");
        return Err(refuse(problem));
    }
    Ok(BatchQuery { statement, key_column: batch.key_column.clone() })
}

impl Loader for SqlLoader {
    fn load<'l>(&'l self, key: &'l [u8]) -> BoxFuture<'l, Result<Loaded, Error>> {
        self.query(key).boxed()
    }

    fn batch(&self) -> Option<&dyn BatchLoader> {
        self.origin.batch.is_some().then_some(self)
    }

    fn warm(&self) {
        let warmed = self.database().map(|database| {
            let tasks = Tasks::new(Handle::current());
            tasks.spawn("warm", async move {
                if let Err(error) = database.warm().await {
                    tracing::warn!(%error, "the first loads of an origin will fail");
                }
            });
        });
        if let Err(error) = warmed {
            tracing::warn!(%error, "the first loads of an origin will fail");
        }
    }

    fn pending(&self) -> Option<String> {
        let database = self.current.lock().as_ref()?.database.clone();
        match &*database {
            Database::Postgres(postgres) => postgres.pending(),
            Database::MySql(mysql) => mysql.pending(),
            Database::Sqlite(_) => None,
        }
    }
}

impl BatchLoader for SqlLoader {
    fn load_batch<'l>(
        &'l self,
        keys: &'l [Bytes],
    ) -> BoxFuture<'l, Result<Vec<BatchedLoad>, Error>> {
        self.query_batch(keys).boxed()
    }
}

impl std::fmt::Debug for SqlLoader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlLoader").field("url_file", &self.origin.url_file).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
