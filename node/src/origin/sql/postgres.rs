//! PostgreSQL. The server reports the types of the parameter and the value. Both travel as text or
//! bytes; the server casts all other types. Tags are a text or an array.

use std::str::FromStr;

use bytes::Bytes;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Either, Executor, Row, SqlSafeStr, Statement as _,
    TypeInfo, ValueRef,
};
use tokio::sync::OnceCell;

use super::connections::Connections;
use super::problem::unreadable;
use super::row::{Found, Query, tags_index};
use super::statement::Statement;
use crate::origin::error::Error;
use crate::origin::tags::split_tags;

/// SQLSTATEs for a text that is not a value of the parameter's type: invalid text, out of range,
/// bad date, not a character of the encoding (source: PostgreSQL, appendix A).
const NOT_A_VALUE: [&str; 5] = ["22P02", "22003", "22007", "22008", "22021"];

/// A PostgreSQL database with its query.
pub(super) struct Postgres {
    connections: Connections<PgConnection>,
    statement: Statement,
    tags_column: Option<String>,
    /// Known once the server has reported the types.
    plan: OnceCell<QueryPlan>,
}

/// The query with casts, so that text or bytes go in and out.
struct QueryPlan {
    sql: String,
    binds_bytes: bool,
    tags: Option<TagsForm>,
}

/// How the second column of the result contains the tags.
#[derive(Clone, Copy)]
enum TagsForm {
    Text,
    Array,
}

impl Postgres {
    /// `None` if `url` is invalid.
    pub(super) fn open(url: &str, query: Query<'_>, concurrency: u32) -> Option<Self> {
        let options = PgConnectOptions::from_str(url).ok()?.disable_statement_logging();
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        Some(Self {
            connections: Connections::new(options, place, concurrency),
            statement: query.statement.clone(),
            tags_column: query.tags_column.map(str::to_owned),
            plan: OnceCell::new(),
        })
    }

    pub(super) async fn warm(&self) -> Result<(), Error> {
        self.plan.get_or_try_init(|| self.plan()).await.map(drop)
    }

    pub(super) fn pending(&self) -> Option<String> {
        self.connections.pending()
    }

    pub(super) async fn load(&self, key: &[u8]) -> Result<Option<Found>, Error> {
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
        let Some(row) = connection.settle(row)? else { return Ok(None) };
        let read = value(&row).and_then(|value| Ok((value, tags(&row, plan.tags)?)));
        let (value, tags) = read.map_err(|error| unreadable(self.connections.place(), error))?;
        Ok(value.map(|value| Found { value, tags }))
    }

    /// Asks the server for the types.
    async fn plan(&self) -> Result<QueryPlan, Error> {
        let mut connection = self.connections.take().await?;
        // Line breaks, because the query may end with a comment.
        let sql = format!("SELECT * FROM (\n{}\n) AS larder LIMIT 1", self.statement.with("$1"));
        let prepared = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await;
        let prepared = connection.settle(prepared)?;
        let parameter_type = match prepared.parameters() {
            Some(Either::Left([parameter])) => parameter.name().to_owned(),
            _ => "TEXT".to_owned(),
        };
        let columns = prepared.columns();
        let value_type = columns.first().map_or("TEXT", |column| column.type_info().name());
        let as_is = is_text(value_type) || value_type == "BYTEA";
        let value = if as_is { "c0" } else { "c0::text" };
        let tags = match &self.tags_column {
            Some(name) => {
                let index = tags_index(columns, name)?;
                let is_array = columns[index].type_info().name().ends_with("[]");
                Some((index, if is_array { TagsForm::Array } else { TagsForm::Text }))
            }
            None => None,
        };
        let parameter = if is_text(&parameter_type) || parameter_type == "BYTEA" {
            "$1".to_owned()
        } else {
            format!("(($1::text)::{parameter_type})")
        };
        let tags_column = tags.map_or_else(String::new, |(index, form)| match form {
            TagsForm::Text => format!(", c{index}::text"),
            TagsForm::Array => format!(", c{index}::text[]"),
        });
        let names: Vec<_> = (0..columns.len()).map(|index| format!("c{index}")).collect();
        // A subquery can only read.
        let sql = format!(
            "SELECT {value}{tags_column} FROM (\n{}\n) AS larder({}) LIMIT 1",
            self.statement.with(&parameter),
            names.join(", ")
        );
        let binds_bytes = parameter_type == "BYTEA";
        Ok(QueryPlan { sql, binds_bytes, tags: tags.map(|(_, form)| form) })
    }
}

/// Types whose binary form is their text.
fn is_text(type_name: &str) -> bool {
    matches!(type_name, "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" | "citext" | "JSON")
}

fn value(row: &PgRow) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let value = row.try_get_raw(0)?;
    if value.is_null() {
        return Ok(None);
    }
    Ok(Some(value.as_bytes().map_err(sqlx::Error::Decode)?.to_vec()))
}

fn tags(row: &PgRow, form: Option<TagsForm>) -> Result<Vec<Bytes>, sqlx::Error> {
    Ok(match form {
        None => Vec::new(),
        Some(TagsForm::Text) => {
            let text: Option<String> = row.try_get(1)?;
            split_tags(text.unwrap_or_default().as_bytes()).collect()
        }
        Some(TagsForm::Array) => {
            let tags: Option<Vec<Option<String>>> = row.try_get(1)?;
            tags.into_iter().flatten().flatten().map(Bytes::from).collect()
        }
    })
}

fn is_not_a_value(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| NOT_A_VALUE.contains(&code.as_ref()))
}
