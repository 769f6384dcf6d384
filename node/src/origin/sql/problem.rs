//! Pure: maps a database's error to one that says what failed and what to check.
//!
//! The database's own text is included, because it names what is missing. It contains no password.

use std::error::Error as _;
use std::time::Duration;

use crate::origin::error::Error;

/// Longest text from a database, in characters: it travels in a header.
const MAX_TEXT: usize = 400;

/// SQLSTATE classes for the end of a connection: connection exception, operator intervention
/// (PostgreSQL, appendix A), connection killed (MariaDB).
const CONNECTION_ENDS: [&str; 3] = ["08", "57", "70100"];
/// SQLSTATE classes for a failed login: authorization, no such database, and MySQL's class for a
/// missing or forbidden database.
const LOGIN: [&str; 3] = ["28", "3D", "42"];
/// SQLSTATE class for an invalid query: syntax, no such table or column, no permission.
const QUERY: &str = "42";
/// SQLSTATE class for data that an expression cannot use: a text that is no number, a division by
/// zero.
const DATA: &str = "22";
/// SQLite's own code for an error in the query.
const SQLITE_QUERY: &str = "1";

/// Opening a connection failed.
pub(super) fn connecting(place: &str, error: &sqlx::Error) -> Error {
    let place = place.to_owned();
    match error {
        sqlx::Error::Database(answer) if is_any(&LOGIN, code(error).as_deref()) => {
            Error::Login { place, problem: short(answer.message()) }
        }
        error => Error::Connect { place, problem: short(&text(error)) },
    }
}

/// Opening a connection timed out.
pub(super) fn silent(place: &str, after: Duration) -> Error {
    let problem = format!("no answer within {} s", after.as_secs());
    Error::Connect { place: place.to_owned(), problem }
}

/// A query on an open connection failed.
pub(super) fn asking(place: &str, error: &sqlx::Error) -> Error {
    let code = code(error);
    let is_query = code.as_deref().is_some_and(|c| c.starts_with(QUERY) || c == SQLITE_QUERY);
    let problem = short(&text(error));
    match error {
        sqlx::Error::Database(_) if is_query => Error::Query { problem },
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => {
            Error::Connect { place: place.to_owned(), problem: format!("it broke: {problem}") }
        }
        _ => Error::Ask { place: place.to_owned(), problem },
    }
}

/// The value of a row could not be decoded.
pub(super) fn unreadable(place: &str, error: impl std::fmt::Display) -> Error {
    Error::Ask { place: place.to_owned(), problem: error.to_string() }
}

/// True if the connection is unusable afterwards.
pub(super) fn breaks(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(_) => is_any(&CONNECTION_ENDS, code(error).as_deref()),
        _ => false,
    }
}

/// True if the query failed because of the value of a row or of the parameter.
pub(super) fn is_about_data(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| code.starts_with(DATA))
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

fn is_any(classes: &[&str], code: Option<&str>) -> bool {
    code.is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
}

fn text(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(answer) => answer.message().to_owned(),
        sqlx::Error::Io(error) => match error.kind() {
            std::io::ErrorKind::ConnectionRefused => {
                "connection refused, nothing listens there".to_owned()
            }
            _ => error.to_string(),
        },
        sqlx::Error::Tls(error) => format!("TLS failed: {error}"),
        other => other.source().map_or_else(|| other.to_string(), ToString::to_string),
    }
}

/// Joins the text into one line and cuts it to [`MAX_TEXT`].
fn short(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn refused() -> sqlx::Error {
        sqlx::Error::Io(io::Error::from(io::ErrorKind::ConnectionRefused))
    }

    #[test]
    fn a_refused_connection_names_the_place() {
        let error = connecting("db:5432", &refused());
        assert_eq!(
            error.to_string(),
            "no connection to db:5432: connection refused, nothing listens there"
        );
        assert_eq!(error.kind(), "connect");
    }

    #[test]
    fn a_transport_error_breaks_the_connection_and_a_missing_row_does_not() {
        assert!(breaks(&refused()));
        assert!(breaks(&sqlx::Error::Protocol("nonsense".into())));
        assert!(!breaks(&sqlx::Error::RowNotFound));
    }

    #[test]
    fn a_long_text_from_a_database_is_cut_to_one_line() {
        let error = asking("db", &sqlx::Error::Protocol("a\n b ".repeat(1_000)));
        let text = error.to_string();
        assert!(text.len() < 500 && !text.contains('\n'), "{text}");
    }
}
