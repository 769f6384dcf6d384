//! The rows of keys: their values and their tags.

use std::ops::ControlFlow;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use sqlx::Column;

use super::statement::Statement;
use crate::origin::error::Error;
use crate::origin::loader::Loaded;
use crate::origin::tags::split_tags;

/// What a database is asked for a key.
#[derive(Clone, Copy)]
pub(super) struct Query<'q> {
    pub(super) statement: &'q Statement,
    pub(super) tags_column: Option<&'q str>,
    pub(super) batch: Option<&'q BatchQuery>,
    pub(super) max_value_bytes: usize,
}

/// What a database is asked for several keys.
#[derive(Clone)]
pub(super) struct BatchQuery {
    pub(super) statement: Statement,
    pub(super) key_column: String,
}

/// The row of a key.
pub(super) struct Found {
    pub(super) value: Vec<u8>,
    pub(super) tags: Vec<Bytes>,
}

/// The load of a key with this row, or none.
pub(super) fn loaded(row: Option<Found>, max_value_bytes: usize) -> Result<Loaded, Error> {
    match row {
        None => Ok(Loaded::Absent),
        Some(row) if row.value.len() > max_value_bytes => {
            Err(Error::TooLarge { max: max_value_bytes })
        }
        Some(row) => Ok(Loaded::with_tags(Bytes::from(row.value), row.tags)),
    }
}

/// Passes rows to `read` until it breaks or fails. The outer error is the database's.
pub(super) async fn read_rows<R>(
    mut rows: BoxStream<'_, Result<R, sqlx::Error>>,
    mut read: impl FnMut(R) -> Result<ControlFlow<()>, Error>,
) -> Result<Result<(), Error>, sqlx::Error> {
    while let Some(row) = rows.try_next().await? {
        match read(row) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}

/// How many parameters the list of `keys` keys has: few different numbers, because each is a
/// statement that the database prepares.
pub(super) fn list_length(keys: usize) -> usize {
    keys.next_power_of_two()
}

/// The keys of a list, the last one repeated up to [`list_length`].
pub(super) fn padded<'k>(keys: &'k [&'k str]) -> impl Iterator<Item = &'k str> {
    let last = keys.last().copied().into_iter().cycle();
    keys.iter().copied().chain(last).take(list_length(keys.len()))
}

/// Reads the value and the tags of a row whose columns are read as bytes.
pub(super) fn found(
    columns: &[impl Column],
    tags_column: Option<&str>,
    read: impl Fn(usize) -> Result<Option<Vec<u8>>, Error>,
) -> Result<Option<Found>, Error> {
    let Some(value) = read(0)? else { return Ok(None) };
    let tags = match tags_column {
        Some(name) => read(tags_index(columns, name)?)?.unwrap_or_default(),
        None => Vec::new(),
    };
    Ok(Some(Found { value, tags: split_tags(&tags).collect() }))
}

/// Index of the column with the tags.
pub(super) fn tags_index(columns: &[impl Column], name: &str) -> Result<usize, Error> {
    index(columns, name).ok_or_else(|| Error::TagsColumn { column: name.to_owned() })
}

/// Index of the column with the key.
pub(super) fn key_index(columns: &[impl Column], name: &str) -> Result<usize, Error> {
    index(columns, name).ok_or_else(|| Error::KeyColumn { column: name.to_owned() })
}

/// Index of a column after the value. Databases differ in how they change the case of a name.
fn index(columns: &[impl Column], name: &str) -> Option<usize> {
    let mut others = columns.iter().enumerate().skip(1);
    others.find(|(_, column)| column.name().eq_ignore_ascii_case(name)).map(|(index, _)| index)
}
