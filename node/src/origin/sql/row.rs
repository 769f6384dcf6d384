//! The row of a key: its value and its tags.

use bytes::Bytes;
use sqlx::Column;

use super::statement::Statement;
use crate::origin::error::Error;
use crate::origin::tags::split_tags;

/// What a database is asked for a key.
#[derive(Clone, Copy)]
pub(super) struct Query<'q> {
    pub(super) statement: &'q Statement,
    pub(super) tags_column: Option<&'q str>,
}

/// The row of a key.
pub(super) struct Found {
    pub(super) value: Vec<u8>,
    pub(super) tags: Vec<Bytes>,
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

/// Index of the column with the tags. Databases differ in how they change the case of a name.
pub(super) fn tags_index(columns: &[impl Column], name: &str) -> Result<usize, Error> {
    let mut others = columns.iter().enumerate().skip(1);
    let tags = others.find(|(_, column)| column.name().eq_ignore_ascii_case(name));
    let (index, _) = tags.ok_or_else(|| Error::TagsColumn { column: name.to_owned() })?;
    Ok(index)
}
