//! MySQL and MariaDB. The server converts a text to the type that it is compared with, and is
//! lenient: `42abc` finds the integer 42. To avoid that, a query compares `CAST(id AS CHAR)`.

use std::str::FromStr;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row, SqlSafeStr, TypeInfo, ValueRef};

use super::connections::Connections;
use super::problem::unreadable;
use super::row::{
    BatchQuery, Found, Query, found, key_index, list_length, loaded, padded, read_rows,
};
use crate::origin::error::Error;
use crate::origin::keyed::KeyedLoads;
use crate::origin::loader::BatchedLoad;

/// A MySQL database with its query.
pub(super) struct MySql {
    connections: Connections<MySqlConnection>,
    sql: String,
    tags_column: Option<String>,
    batch: Option<BatchQuery>,
    max_value_bytes: usize,
    /// How often the key is bound: MySQL's parameters have no numbers.
    places: usize,
}

impl MySql {
    /// `None` if `url` is invalid.
    pub(super) fn open(url: &str, query: Query<'_>, concurrency: u32) -> Option<Self> {
        let options = MySqlConnectOptions::from_str(url).ok()?.disable_statement_logging();
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let connections = Connections::new(options, place, concurrency);
        Some(Self {
            connections,
            sql: query.statement.with("?"),
            tags_column: query.tags_column.map(str::to_owned),
            batch: query.batch.cloned(),
            max_value_bytes: query.max_value_bytes,
            places: query.statement.places(),
        })
    }

    pub(super) async fn warm(&self) -> Result<(), Error> {
        let mut connection = self.connections.take().await?;
        let prepared = connection.prepare(AssertSqlSafe(self.sql.as_str()).into_sql_str()).await;
        connection.settle(prepared.map(drop))
    }

    pub(super) fn pending(&self) -> Option<String> {
        self.connections.pending()
    }

    pub(super) async fn load(&self, key: &[u8]) -> Result<Option<Found>, Error> {
        let mut query = sqlx::query(AssertSqlSafe(self.sql.as_str()));
        for _ in 0..self.places {
            query = match str::from_utf8(key) {
                Ok(text) => query.bind(text),
                Err(_) => query.bind(key),
            };
        }
        let mut connection = self.connections.take().await?;
        let row = query.fetch_optional(&mut *connection).await;
        let Some(row) = connection.settle(row)? else { return Ok(None) };
        self.found(&row)
    }

    /// Keys that are no texts are loaded alone: one of them would make the whole comparison binary.
    pub(super) async fn load_batch(
        &self,
        mut loads: KeyedLoads<'_>,
    ) -> Result<Vec<BatchedLoad>, Error> {
        let texts = loads.texts(|| BatchedLoad::LoadAlone);
        let Some(batch) = self.batch.as_ref().filter(|_| !texts.is_empty()) else {
            return Ok(loads.finish());
        };
        let list = vec!["?"; list_length(texts.len())].join(", ");
        let sql = batch.statement.with(&list);
        let mut query = sqlx::query(AssertSqlSafe(sql.as_str()));
        for _ in 0..batch.statement.places() {
            query = padded(&texts).fold(query, sqlx::query::Query::bind);
        }
        let mut connection = self.connections.take().await?;
        let read = read_rows(query.fetch(&mut *connection), |row| {
            let index = key_index(row.columns(), &batch.key_column)?;
            let key = column(&row, index, self.connections.place())?.unwrap_or_default();
            loads.add(&key, self.found(&row).and_then(|row| loaded(row, self.max_value_bytes)))
        });
        let read = read.await;
        match connection.settle_batch(read)? {
            None => Ok(loads.all_alone()),
            Some(read) => read.map(|()| loads.finish()),
        }
    }

    fn found(&self, row: &MySqlRow) -> Result<Option<Found>, Error> {
        let read = |index| column(row, index, self.connections.place());
        found(row.columns(), self.tags_column.as_deref(), read)
    }
}

fn column(row: &MySqlRow, index: usize, place: &str) -> Result<Option<Vec<u8>>, Error> {
    let raw = row.try_get_raw(index).map_err(|error| unreadable(place, error))?;
    if raw.is_null() {
        return Ok(None);
    }
    let type_name = raw.type_info().name().to_owned();
    let text = |text: String| text.into_bytes();
    let read = match type_name.as_str() {
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
            row.try_get_unchecked::<i64, _>(index).map(|n| text(n.to_string()))
        }
        "FLOAT" => row.try_get_unchecked::<f32, _>(index).map(|n| text(n.to_string())),
        "DOUBLE" => row.try_get_unchecked::<f64, _>(index).map(|n| text(n.to_string())),
        unsigned if unsigned.ends_with(" UNSIGNED") => {
            row.try_get_unchecked::<u64, _>(index).map(|n| text(n.to_string()))
        }
        "DATE" | "TIME" | "DATETIME" | "TIMESTAMP" | "YEAR" | "BIT" | "GEOMETRY" => {
            return Err(Error::Type { type_name });
        }
        // All others, DECIMAL and JSON included, travel as bytes.
        _ => row.try_get_unchecked::<Vec<u8>, _>(index),
    };
    read.map(Some).map_err(|error| unreadable(place, error))
}
