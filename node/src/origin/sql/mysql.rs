//! MySQL and MariaDB. The server converts a text to the type that it is compared with, and is
//! lenient: `42abc` finds the integer 42. To avoid that, a query compares `CAST(id AS CHAR)`.

use std::str::FromStr;

use sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, Row, SqlSafeStr, TypeInfo, ValueRef};

use super::connections::Connections;
use super::problem::unreadable;
use super::row::{Found, Query, found};
use crate::origin::error::Error;

/// A MySQL database with its query.
pub(super) struct MySql {
    connections: Connections<MySqlConnection>,
    sql: String,
    tags_column: Option<String>,
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
        let read = |index| column(&row, index, self.connections.place());
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
