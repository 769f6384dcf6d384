//! PostgreSQL. The server reports the types of the parameter and the value. Both travel as text or
//! bytes; the server casts all other types.

use std::str::FromStr;

use larder_proto::contract::OriginLimits;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Either, Executor, Row, SqlSafeStr, Statement as _,
    TypeInfo, ValueRef,
};
use tokio::sync::OnceCell;

use super::connections::Connections;
use super::problem::unreadable;
use super::statement::Statement;
use crate::origin::error::Error;

/// SQLSTATEs for a text that is not a value of the parameter's type: invalid text, out of range,
/// bad date, not a character of the encoding (source: PostgreSQL, appendix A).
const NOT_A_VALUE: [&str; 5] = ["22P02", "22003", "22007", "22008", "22021"];

/// A PostgreSQL database with its query.
pub(super) struct Postgres {
    connections: Connections<PgConnection>,
    statement: Statement,
    /// Known once the server has reported the types.
    plan: OnceCell<QueryPlan>,
}

/// The query with casts, so that text or bytes go in and out.
struct QueryPlan {
    sql: String,
    binds_bytes: bool,
}

impl Postgres {
    /// `None` if `url` is invalid.
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
            Err(error) if is_not_a_value(&error) => Ok(None),
            other => other,
        };
        connection.settle(row)?.map_or(Ok(None), |row| value(&row, self.connections.place()))
    }

    /// Asks the server for the types.
    async fn plan(&self) -> Result<QueryPlan, Error> {
        let mut connection = self.connections.take().await?;
        let sql = wrap("value", &self.statement.with("$1"));
        let prepared = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await;
        let prepared = connection.settle(prepared)?;
        let parameter_type = match prepared.parameters() {
            Some(Either::Left([parameter])) => parameter.name().to_owned(),
            _ => "TEXT".to_owned(),
        };
        let value_type =
            prepared.columns().first().map_or("TEXT", |column| column.type_info().name());
        let value =
            if is_text(value_type) || value_type == "BYTEA" { "value" } else { "value::text" };
        let parameter = if is_text(&parameter_type) || parameter_type == "BYTEA" {
            "$1".to_owned()
        } else {
            format!("(($1::text)::{parameter_type})")
        };
        let sql = wrap(value, &self.statement.with(&parameter));
        Ok(QueryPlan { sql, binds_bytes: parameter_type == "BYTEA" })
    }
}

/// The first column of the first row of `query`, as `value`. A subquery can only read.
fn wrap(value: &str, query: &str) -> String {
    // Line breaks, because the query may end with a comment.
    format!("SELECT {value} FROM (\n{query}\n) AS larder(value) LIMIT 1")
}

/// Types whose binary form is their text.
fn is_text(type_name: &str) -> bool {
    matches!(type_name, "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" | "citext" | "JSON")
}

fn value(row: &PgRow, place: &str) -> Result<Option<Vec<u8>>, Error> {
    let value = row.try_get_raw(0).map_err(|error| unreadable(place, error))?;
    if value.is_null() {
        return Ok(None);
    }
    value.as_bytes().map(|bytes| Some(bytes.to_vec())).map_err(|error| unreadable(place, error))
}

fn is_not_a_value(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| NOT_A_VALUE.contains(&code.as_ref()))
}
