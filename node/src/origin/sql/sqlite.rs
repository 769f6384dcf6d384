//! SQLite. A value has the type it was stored with; the key is compared as text, or as a blob
//! when it is no UTF-8.

use std::str::FromStr;

use larder_proto::contract::OriginLimits;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row, SqlSafeStr, TypeInfo, ValueRef};

use super::super::Error;
use super::connections::Connections;
use super::{Statement, unreadable};

/// How the database is called: its path is the credential, and is not shown.
const PLACE: &str = "the SQLite file";

/// A SQLite file with the query for it.
pub(super) struct SqliteSource {
    connections: Connections<SqliteConnection>,
    sql: String,
}

impl SqliteSource {
    /// Nothing when `url` is not understood.
    pub(super) fn open(url: &str, statement: &Statement, limits: &OriginLimits) -> Option<Self> {
        let options = SqliteConnectOptions::from_str(url).ok()?.disable_statement_logging();
        let connections = Connections::new(options, PLACE.into(), limits.concurrency);
        Some(Self { connections, sql: statement.with("?1") })
    }

    pub(super) async fn warm(&self) -> Result<(), Error> {
        let mut connection = self.connections.take().await?;
        let prepared = connection.prepare(AssertSqlSafe(self.sql.as_str()).into_sql_str()).await;
        connection.settle(prepared.map(drop))
    }

    pub(super) async fn load(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let query = sqlx::query(AssertSqlSafe(self.sql.as_str()));
        let query = match str::from_utf8(key) {
            Ok(text) => query.bind(text),
            Err(_) => query.bind(key),
        };
        let mut connection = self.connections.take().await?;
        let row = query.fetch_optional(&mut *connection).await;
        connection.settle(row)?.map_or(Ok(None), |row| value(&row))
    }
}

fn value(row: &SqliteRow) -> Result<Option<Vec<u8>>, Error> {
    let raw = row.try_get_raw(0).map_err(unreadable)?;
    if raw.is_null() {
        return Ok(None);
    }
    let type_name = raw.type_info().name().to_owned();
    drop(raw);
    let read = match type_name.as_str() {
        "INTEGER" => row.try_get_unchecked::<i64, _>(0).map(|n| n.to_string().into_bytes()),
        "REAL" => row.try_get_unchecked::<f64, _>(0).map(|n| n.to_string().into_bytes()),
        _ => row.try_get_unchecked::<Vec<u8>, _>(0),
    };
    read.map(Some).map_err(unreadable)
}
