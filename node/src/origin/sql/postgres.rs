//! PostgreSQL. The server reports the types of the parameter and the value. Both travel as text or
//! bytes; the server casts all other types. Tags are a text or an array.

use std::str::FromStr;

use bytes::Bytes;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow, PgTypeInfo, PgTypeKind};
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Either, Executor, Row, SqlSafeStr, Statement as _,
    TypeInfo, ValueRef,
};
use tokio::sync::OnceCell;

use super::connections::Connections;
use super::problem::unreadable;
use super::row::{BatchQuery, Found, Query, key_index, loaded, read_rows, tags_index};
use super::statement::Statement;
use crate::origin::error::Error;
use crate::origin::keyed::KeyedLoads;
use crate::origin::loader::{BatchedLoad, Loaded};
use crate::origin::tags::split_tags;

/// SQLSTATEs for a text that is not a value of the parameter's type: invalid text, out of range,
/// bad date, not a character of the encoding (source: PostgreSQL, appendix A).
const NOT_A_VALUE: [&str; 5] = ["22P02", "22003", "22007", "22008", "22021"];

/// A PostgreSQL database with its query.
pub(super) struct Postgres {
    connections: Connections<PgConnection>,
    statement: Statement,
    tags_column: Option<String>,
    batch: Option<BatchQuery>,
    max_value_bytes: usize,
    /// Known once the server has reported the types.
    plan: OnceCell<QueryPlan>,
    batch_plan: OnceCell<QueryPlan>,
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
        let options = options.options([("default_transaction_read_only", "on")]);
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        Some(Self {
            connections: Connections::new(options, place, concurrency),
            statement: query.statement.clone(),
            tags_column: query.tags_column.map(str::to_owned),
            batch: query.batch.cloned(),
            max_value_bytes: query.max_value_bytes,
            plan: OnceCell::new(),
            batch_plan: OnceCell::new(),
        })
    }

    pub(super) async fn warm(&self) -> Result<(), Error> {
        self.plan().await?;
        match &self.batch {
            Some(batch) => self.batch_plan(batch).await.map(drop),
            None => Ok(()),
        }
    }

    pub(super) fn pending(&self) -> Option<String> {
        self.connections.pending()
    }

    pub(super) async fn load(&self, key: &[u8]) -> Result<Option<Found>, Error> {
        let plan = self.plan().await?;
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
        let read = found(&row, plan.tags);
        read.map_err(|error| unreadable(self.connections.place(), error))
    }

    pub(super) async fn load_batch(
        &self,
        keys: &[Bytes],
        mut loads: KeyedLoads<'_>,
    ) -> Result<Vec<BatchedLoad>, Error> {
        let Some(batch) = &self.batch else { return Ok(loads.all_alone()) };
        let plan = self.batch_plan(batch).await?;
        let query = sqlx::query(AssertSqlSafe(plan.sql.as_str()));
        let query = if plan.binds_bytes {
            query.bind(keys.iter().map(|key| &**key).collect::<Vec<&[u8]>>())
        } else {
            query.bind(loads.texts(|| BatchedLoad::Done(Loaded::Absent)))
        };
        let place = self.connections.place();
        let mut connection = self.connections.take().await?;
        let read = read_rows(query.fetch(&mut *connection), |row| {
            let key = bytes(&row, row.len() - 1).map_err(|error| unreadable(place, error))?;
            let found = found(&row, plan.tags).map_err(|error| unreadable(place, error))?;
            loads.add(&key.unwrap_or_default(), loaded(found, self.max_value_bytes))
        });
        let read = read.await;
        match connection.settle_batch(read)? {
            // One key that is no value of the type fails the whole array.
            None => Ok(loads.all_alone()),
            Some(read) => read.map(|()| loads.finish()),
        }
    }

    async fn plan(&self) -> Result<&QueryPlan, Error> {
        self.plan.get_or_try_init(|| self.ask_for_types(&self.statement, None)).await
    }

    async fn batch_plan(&self, batch: &BatchQuery) -> Result<&QueryPlan, Error> {
        let plan = || self.ask_for_types(&batch.statement, Some(&batch.key_column));
        self.batch_plan.get_or_try_init(plan).await
    }

    /// Asks the server for the types of a query, of several keys if their column is given.
    async fn ask_for_types(
        &self,
        statement: &Statement,
        key_column: Option<&str>,
    ) -> Result<QueryPlan, Error> {
        let mut connection = self.connections.take().await?;
        // Line breaks, because the query may end with a comment.
        let sql = format!("SELECT * FROM (\n{}\n) AS larder LIMIT 1", statement.with("$1"));
        let prepared = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await;
        let prepared = connection.settle(prepared)?;
        let parameter = match prepared.parameters() {
            Some(Either::Left([parameter])) => Some(parameter),
            _ => None,
        };
        let columns = prepared.columns();
        let as_bytes = |index: usize| {
            let type_name = columns.get(index).map_or("TEXT", |column| column.type_info().name());
            let as_is = is_text(type_name) || type_name == "BYTEA";
            if as_is { format!("c{index}") } else { format!("c{index}::text") }
        };
        let tags = match &self.tags_column {
            Some(name) => {
                let index = tags_index(columns, name)?;
                let is_array = columns[index].type_info().name().ends_with("[]");
                Some((index, if is_array { TagsForm::Array } else { TagsForm::Text }))
            }
            None => None,
        };
        let (parameter, binds_bytes) = match key_column {
            Some(_) => array_parameter(parameter)?,
            None => single_parameter(parameter),
        };
        let tags_column = tags.map_or_else(String::new, |(index, form)| match form {
            TagsForm::Text => format!(", c{index}::text"),
            TagsForm::Array => format!(", c{index}::text[]"),
        });
        let key = key_column.map(|name| key_index(columns, name)).transpose()?;
        let key = key.map_or_else(String::new, |index| format!(", {}", as_bytes(index)));
        let limit = if key_column.is_some() { "" } else { " LIMIT 1" };
        let names: Vec<_> = (0..columns.len()).map(|index| format!("c{index}")).collect();
        // A subquery can only read.
        let sql = format!(
            "SELECT {}{tags_column}{key} FROM (\n{}\n) AS larder({}){limit}",
            as_bytes(0),
            statement.with(&parameter),
            names.join(", ")
        );
        Ok(QueryPlan { sql, binds_bytes, tags: tags.map(|(_, form)| form) })
    }
}

/// How a query uses the key, and whether the key is bound as bytes.
fn single_parameter(parameter: Option<&PgTypeInfo>) -> (String, bool) {
    match parameter.map_or("TEXT", TypeInfo::name) {
        "BYTEA" => ("$1".to_owned(), true),
        text if is_text(text) => ("$1".to_owned(), false),
        other => (format!("(($1::text)::{other})"), false),
    }
}

/// [`single_parameter`] for an array of keys.
fn array_parameter(parameter: Option<&PgTypeInfo>) -> Result<(String, bool), Error> {
    let element = match parameter.map(PgTypeInfo::kind) {
        Some(PgTypeKind::Array(element)) => element.name(),
        _ => {
            let problem = "its parameter is no array: write = ANY($1)".to_owned();
            return Err(Error::BatchStatement { problem });
        }
    };
    Ok(match element {
        "BYTEA" => ("$1".to_owned(), true),
        text if is_text(text) => ("$1".to_owned(), false),
        other => (format!("(($1::text[])::{other}[])"), false),
    })
}

/// Types whose binary form is their text.
fn is_text(type_name: &str) -> bool {
    matches!(type_name, "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" | "citext" | "JSON")
}

fn found(row: &PgRow, tags_form: Option<TagsForm>) -> Result<Option<Found>, sqlx::Error> {
    let Some(value) = bytes(row, 0)? else { return Ok(None) };
    Ok(Some(Found { value, tags: tags(row, tags_form)? }))
}

fn bytes(row: &PgRow, index: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
    let value = row.try_get_raw(index)?;
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
