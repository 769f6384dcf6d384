//! Pure: a database's error in words that say what is wrong and what to look at.
//!
//! A database's own words are told, because they name what is missing; they hold no password.

use std::error::Error as _;
use std::time::Duration;

use crate::origin::Error;

/// Characters of a database's words that are told: they travel in a header.
const WORDS: usize = 400;

/// SQLSTATE classes by which a server says that this connection ends: connection exception,
/// operator intervention (PostgreSQL, appendix A), connection killed (MariaDB).
const ENDS: [&str; 3] = ["08", "57", "70100"];
/// SQLSTATE classes of a login that is wrong: authorization, no such database, and MySQL's own for
/// a database that is missing or forbidden.
const LOGIN: [&str; 3] = ["28", "3D", "42"];
/// SQLSTATE class of a query that is wrong: syntax, no such table or column, no right to it.
const QUERY: &str = "42";
/// SQLite has codes of its own; 1 is an error in the query.
const SQLITE_QUERY: &str = "1";

/// No connection could be opened.
pub(super) fn connecting(place: &str, error: &sqlx::Error) -> Error {
    let place = place.to_owned();
    match error {
        sqlx::Error::Database(answer) if is_any(&LOGIN, code(error).as_deref()) => {
            Error::Login { place, problem: short(answer.message()) }
        }
        error => Error::Connect { place, problem: short(&words(error)) },
    }
}

/// An opening did not end in time.
pub(super) fn silent(place: &str, after: Duration) -> Error {
    let problem = format!("no answer within {} s", after.as_secs());
    Error::Connect { place: place.to_owned(), problem }
}

/// A connection was there, and the load failed.
pub(super) fn asking(place: &str, error: &sqlx::Error) -> Error {
    let code = code(error);
    let is_query = code.as_deref().is_some_and(|c| c.starts_with(QUERY) || c == SQLITE_QUERY);
    let problem = short(&words(error));
    match error {
        sqlx::Error::Database(_) if is_query => Error::Query { problem },
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => {
            Error::Connect { place: place.to_owned(), problem: format!("it broke: {problem}") }
        }
        _ => Error::Ask { problem },
    }
}

/// True when the connection cannot be used again.
pub(super) fn breaks(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(_) => is_any(&ENDS, code(error).as_deref()),
        _ => false,
    }
}

fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

fn is_any(classes: &[&str], code: Option<&str>) -> bool {
    code.is_some_and(|code| classes.iter().any(|class| code.starts_with(class)))
}

fn words(error: &sqlx::Error) -> String {
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

/// One line that is not too long.
fn short(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(WORDS).collect()
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
    fn a_broken_connection_is_not_kept_and_a_missing_row_is_no_break() {
        assert!(breaks(&refused()));
        assert!(breaks(&sqlx::Error::Protocol("nonsense".into())));
        assert!(!breaks(&sqlx::Error::RowNotFound));
    }

    #[test]
    fn long_words_of_a_database_are_cut_to_one_line() {
        let error = asking("db", &sqlx::Error::Protocol("a\n b ".repeat(1_000)));
        let text = error.to_string();
        assert!(text.len() < 500 && !text.contains('\n'), "{text}");
    }
}
