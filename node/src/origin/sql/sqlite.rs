//! SQLite. A value has the type with which it was stored. The key is compared as text, or as a blob
//! if it is not valid UTF-8.

use std::str::FromStr;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row, SqlSafeStr, TypeInfo, ValueRef};

use super::connections::Connections;
use super::problem::unreadable;
use super::row::{
    BatchQuery, Found, Query, found, key_index, list_length, loaded, padded, read_rows,
};
use crate::origin::error::Error;
use crate::origin::keyed::KeyedLoads;
use crate::origin::loader::BatchedLoad;

/// Name of the database in errors. Its path is the credential, so it is not shown.
const PLACE: &str = "the SQLite file";

/// A SQLite file with its query.
pub(super) struct Sqlite {
    connections: Connections<SqliteConnection>,
    sql: String,
    tags_column: Option<String>,
    batch: Option<BatchQuery>,
    max_value_bytes: usize,
}

impl Sqlite {
    /// `None` if `url` is invalid.
    pub(super) fn open(url: &str, query: Query<'_>, concurrency: u32) -> Option<Self> {
        let options = SqliteConnectOptions::from_str(url).ok()?.disable_statement_logging();
        let options = options.pragma("query_only", "ON");
        let connections = Connections::new(options, PLACE.into(), concurrency);
        Some(Self {
            connections,
            sql: query.statement.with("?1"),
            tags_column: query.tags_column.map(str::to_owned),
            batch: query.batch.cloned(),
            max_value_bytes: query.max_value_bytes,
        })
    }

    pub(super) async fn warm(&self) -> Result<(), Error> {
        let mut connection = self.connections.take().await?;
        let prepared = connection.prepare(AssertSqlSafe(self.sql.as_str()).into_sql_str()).await;
        connection.settle(prepared.map(drop))
    }

    pub(super) async fn load(&self, key: &[u8]) -> Result<Option<Found>, Error> {
        let query = sqlx::query(AssertSqlSafe(self.sql.as_str()));
        let query = match str::from_utf8(key) {
            Ok(text) => query.bind(text),
            Err(_) => query.bind(key),
        };
        let mut connection = self.connections.take().await?;
        let row = query.fetch_optional(&mut *connection).await;
        let Some(row) = connection.settle(row)? else { return Ok(None) };
        self.found(&row)
    }

    /// Keys that are no texts are loaded alone: each has to be compared as its own type.
    pub(super) async fn load_batch(
        &self,
        mut loads: KeyedLoads<'_>,
    ) -> Result<Vec<BatchedLoad>, Error> {
        let texts = loads.texts(|| BatchedLoad::LoadAlone);
        let Some(batch) = self.batch.as_ref().filter(|_| !texts.is_empty()) else {
            return Ok(loads.finish());
        };
        let list: Vec<_> = (1..=list_length(texts.len())).map(|n| format!("?{n}")).collect();
        let sql = batch.statement.with(&list.join(", "));
        let query = sqlx::query(AssertSqlSafe(sql.as_str()));
        let query = padded(&texts).fold(query, sqlx::query::Query::bind);
        let mut connection = self.connections.take().await?;
        let read = read_rows(query.fetch(&mut *connection), |row| {
            let index = key_index(row.columns(), &batch.key_column)?;
            let key = column(&row, index, self.connections.place())?.unwrap_or_default();
            loads.add(&key, self.found(&row).and_then(|row| loaded(row, self.max_value_bytes)))
        });
        let read = read.await;
        connection.settle(read)??;
        Ok(loads.finish())
    }

    fn found(&self, row: &SqliteRow) -> Result<Option<Found>, Error> {
        let read = |index| column(row, index, self.connections.place());
        found(row.columns(), self.tags_column.as_deref(), read)
    }
}

fn column(row: &SqliteRow, index: usize, place: &str) -> Result<Option<Vec<u8>>, Error> {
    let raw = row.try_get_raw(index).map_err(|error| unreadable(place, error))?;
    if raw.is_null() {
        return Ok(None);
    }
    let type_name = raw.type_info().name().to_owned();
    drop(raw);
    let read = match type_name.as_str() {
        "INTEGER" => row.try_get_unchecked::<i64, _>(index).map(|n| n.to_string().into_bytes()),
        "REAL" => row.try_get_unchecked::<f64, _>(index).map(|n| n.to_string().into_bytes()),
        _ => row.try_get_unchecked::<Vec<u8>, _>(index),
    };
    read.map(Some).map_err(|error| unreadable(place, error))
}
