//! PostgreSQL. The server says which types the parameter and the value have; both travel as text
//! or bytes, and the server itself casts whatever else they are.

use std::str::FromStr;

use larder_proto::contract::OriginLimits;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Either, Executor, Row, SqlSafeStr, Statement as _,
    TypeInfo, ValueRef,
};
use tokio::sync::OnceCell;

use super::super::Error;
use super::connections::Connections;
use super::{Statement, unreadable};

/// SQLSTATEs by which the server says that a text is no value of the parameter's type: invalid
/// text, out of range, bad date, no character of the encoding (source: PostgreSQL, appendix A).
const NO_SUCH_VALUE: [&str; 5] = ["22P02", "22003", "22007", "22008", "22021"];

/// A PostgreSQL database with the query for it.
pub(super) struct PostgresSource {
    connections: Connections<PgConnection>,
    statement: Statement,
    /// How to ask, once the server told its types.
    plan: OnceCell<Plan>,
}

struct Plan {
    sql: String,
    binds_bytes: bool,
}

impl PostgresSource {
    /// Nothing when `url` is not understood.
    pub(super) fn open(url: &str, statement: &Statement, limits: &OriginLimits) -> Option<Self> {
        let options = PgConnectOptions::from_str(url).ok()?.disable_statement_logging();
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let connections = Connections::new(options, place, limits.concurrency);
        Some(Self { connections, statement: statement.clone(), plan: OnceCell::new() })
    }

    pub(super) async fn warm(&self) -> Result<(), Error> {
        self.plan.get_or_try_init(|| self.plan()).await.map(drop)
    }

    pub(super) fn pending(&self) -> Option<String> {
        self.connections.pending()
    }

    pub(super) async fn load(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let plan = self.plan.get_or_try_init(|| self.plan()).await?;
        let query = sqlx::query(AssertSqlSafe(plan.sql.as_str()));
        let query = match str::from_utf8(key) {
            _ if plan.binds_bytes => query.bind(key),
            Ok(text) => query.bind(text),
            Err(_) => return Ok(None),
        };
        let mut connection = self.connections.take().await?;
        let row = match query.fetch_optional(&mut *connection).await {
            Err(error) if is_no_such_value(&error) => Ok(None),
            other => other,
        };
        connection.settle(row)?.map_or(Ok(None), |row| value(&row))
    }

    /// Asks the server for the types, and writes the query so that text or bytes go in and out.
    async fn plan(&self) -> Result<Plan, Error> {
        let mut connection = self.connections.take().await?;
        let sql = wrap("value", &self.statement.with("$1"));
        let prepared = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await;
        let prepared = connection.settle(prepared)?;
        let takes = match prepared.parameters() {
            Some(Either::Left([parameter])) => parameter.name().to_owned(),
            _ => "TEXT".to_owned(),
        };
        let gives = prepared.columns().first().map_or("TEXT", |column| column.type_info().name());
        let value = if is_text(gives) || gives == "BYTEA" { "value" } else { "value::text" };
        let parameter = if is_text(&takes) || takes == "BYTEA" {
            "$1".to_owned()
        } else {
            format!("(($1::text)::{takes})")
        };
        let sql = wrap(value, &self.statement.with(&parameter));
        Ok(Plan { sql, binds_bytes: takes == "BYTEA" })
    }
}

/// The first column of the first row of `query`, under one name. As a part of another query it
/// can only read.
fn wrap(value: &str, query: &str) -> String {
    // A line of its own, for the query may end with a comment.
    format!("SELECT {value} FROM (\n{query}\n) AS larder(value) LIMIT 1")
}

/// Types whose binary form is their text.
fn is_text(type_name: &str) -> bool {
    matches!(type_name, "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" | "citext" | "JSON")
}

fn value(row: &PgRow) -> Result<Option<Vec<u8>>, Error> {
    let value = row.try_get_raw(0).map_err(unreadable)?;
    if value.is_null() {
        return Ok(None);
    }
    value.as_bytes().map(|bytes| Some(bytes.to_vec())).map_err(unreadable)
}

fn is_no_such_value(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| NO_SUCH_VALUE.contains(&code.as_ref()))
}
