//! Reads a query without a database: it must only read, and have the key as its one parameter, `?` or
//! `$1`. Each database gets the parameter in its own syntax.
//!
//! What is a string, a name or a comment differs between databases, so a query is read in the dialect
//! of its database. That it only reads is checked here for an early and clear error; what enforces it
//! is the read-only session of each connection.

use sqlparser::ast::{Query, SetExpr, Statement as Parsed};
use sqlparser::dialect::{Dialect as Grammar, MySqlDialect, PostgreSqlDialect, SQLiteDialect};
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Location, Token, Tokenizer};

use crate::origin::error::Error;

/// The language of one kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    MySql,
    Sqlite,
}

/// A query with one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// The texts around the parameter's places, so one more than there are places.
    texts: Vec<String>,
}

impl Dialect {
    const ALL: [Self; 3] = [Self::Postgres, Self::MySql, Self::Sqlite];

    fn grammar(self) -> &'static dyn Grammar {
        match self {
            Self::Postgres => &PostgreSqlDialect {},
            Self::MySql => &MySqlDialect {},
            Self::Sqlite => &SQLiteDialect {},
        }
    }

    /// Refuses what no database takes: which one a query is for is known with the credential.
    ///
    /// # Errors
    /// The problem in the first dialect.
    pub(super) fn any<T>(parse: impl Fn(Self) -> Result<T, Error>) -> Result<(), Error> {
        let [first, others @ ..] = Self::ALL.map(|dialect| parse(dialect).map(drop));
        if others.iter().any(Result::is_ok) { Ok(()) } else { first }
    }

    /// The parameter as the database writes it.
    fn parameter(self) -> &'static str {
        match self {
            Self::Postgres => "$1",
            Self::MySql => "?",
            Self::Sqlite => "?1",
        }
    }
}

impl Statement {
    /// Finds the parameter.
    ///
    /// # Errors
    /// The query is none, does not only read, or has not exactly one parameter.
    pub(super) fn parse(query: &str, dialect: Dialect) -> Result<Self, Error> {
        let refuse = |problem: String| Error::Statement { problem };
        let query = query.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
        let statement = Self { texts: around_parameter(query, dialect).map_err(refuse)? };
        only_reads(&statement.with(dialect.parameter()), dialect).map_err(refuse)?;
        Ok(statement)
    }

    /// The query with `parameter` in the parameter's places.
    pub(super) fn with(&self, parameter: &str) -> String {
        self.texts.join(parameter)
    }

    /// Number of places of the parameter.
    pub(super) fn places(&self) -> usize {
        self.texts.len() - 1
    }
}

/// A `?` or `$n` in a query, as byte offsets.
struct Mark {
    start: usize,
    end: usize,
    /// The n of `$n` or of SQLite's `?n`.
    number: Option<u32>,
}

fn around_parameter(query: &str, dialect: Dialect) -> Result<Vec<String>, String> {
    let marks = marks(query, dialect)?;
    // PostgreSQL has operators with `?`, so `?` is a parameter only if there is no `$1`.
    let numbered = marks.iter().any(|mark| mark.number.is_some());
    let places: Vec<&Mark> =
        marks.iter().filter(|mark| mark.number.is_some() == numbered).collect();
    check_places(&places)?;
    let mut texts = Vec::with_capacity(places.len() + 1);
    let mut from = 0;
    for place in &places {
        texts.push(query[from..place.start].to_owned());
        from = place.end;
    }
    texts.push(query[from..].to_owned());
    Ok(texts)
}

/// Refuses places that are not all of one parameter. Either all of them have a number or none has.
fn check_places(places: &[&Mark]) -> Result<(), &'static str> {
    let numbers = || places.iter().filter_map(|place| place.number);
    if places.is_empty() {
        Err("it has no parameter for the key: write $1 or ?")
    } else if numbers().any(|number| number != 1) {
        Err("it has more than one parameter: the key is $1, and there is no other")
    } else if places.len() > 1 && numbers().next().is_none() {
        Err("it has more than one ?: write $1 to use the key again")
    } else {
        Ok(())
    }
}

fn marks(query: &str, dialect: Dialect) -> Result<Vec<Mark>, String> {
    let tokens = Tokenizer::new(dialect.grammar(), query).tokenize_with_location();
    let tokens = tokens.map_err(|error| error.to_string())?;
    let lines = Lines::new(query);
    let mut marks = Vec::new();
    for token in tokens {
        let number = match &token.token {
            // MySQL's names may begin with a dollar sign.
            Token::Word(word) if dialect == Dialect::MySql && word.quote_style.is_none() => {
                match word.value.strip_prefix('$').map(str::parse) {
                    Some(Ok(number)) => Some(number),
                    _ => continue,
                }
            }
            Token::SemiColon => return Err("it is more than one statement".into()),
            // It could end the session's being read-only for the loads that follow.
            Token::Word(word) if word.value.eq_ignore_ascii_case("set_config") => {
                return Err("it may not call set_config".into());
            }
            Token::Question => None,
            Token::Placeholder(text) => match text[1..].parse() {
                Ok(number) => Some(number),
                Err(_) if text == "?" => None,
                Err(_) => continue,
            },
            _ => continue,
        };
        let (start, end) = (lines.offset(token.span.start), lines.offset(token.span.end));
        marks.push(Mark { start, end, number });
    }
    Ok(marks)
}

/// Byte offsets of the places that the tokenizer counts in lines and characters, both from 1.
struct Lines<'q> {
    query: &'q str,
    starts: Vec<usize>,
}

impl<'q> Lines<'q> {
    fn new(query: &'q str) -> Self {
        let after_breaks = query.match_indices('\n').map(|(at, _)| at + 1);
        Self { query, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    fn offset(&self, place: Location) -> usize {
        let index = |count: u64| usize::try_from(count.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(start) = self.starts.get(index(place.line)) else { return self.query.len() };
        let mut characters = self.query[*start..].char_indices();
        characters.nth(index(place.column)).map_or(self.query.len(), |(at, _)| start + at)
    }
}

fn only_reads(query: &str, dialect: Dialect) -> Result<(), String> {
    let parsed = Parser::parse_sql(dialect.grammar(), query).map_err(|error| error.to_string())?;
    match &parsed[..] {
        [Parsed::Query(query)] if query_reads(query) => Ok(()),
        [_] => Err("it does not only read: write a SELECT".into()),
        _ => Err("it is more than one statement".into()),
    }
}

fn query_reads(query: &Query) -> bool {
    let with = query.with.iter().flat_map(|with| &with.cte_tables);
    query.locks.is_empty()
        && reads(&query.body)
        && with.map(|cte| &cte.query).all(|q| query_reads(q))
}

fn reads(body: &SetExpr) -> bool {
    match body {
        // SELECT INTO makes a table or, in MySQL, a file.
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::Query(query) => query_reads(query),
        SetExpr::SetOperation { left, right, .. } => reads(left) && reads(right),
        SetExpr::Values(_) | SetExpr::Table(_) => true,
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use Dialect::{MySql, Postgres, Sqlite};

    use super::*;

    #[test]
    fn the_parameter_is_found_in_every_place() {
        for (dialects, query, expected) in [
            (&Dialect::ALL[..], "SELECT s FROM s WHERE n = ? ;\n", "SELECT s FROM s WHERE n = <>"),
            (&Dialect::ALL, "SELECT s FROM s WHERE n = $1", "SELECT s FROM s WHERE n = <>"),
            (
                &[Postgres],
                "SELECT a FROM t WHERE k=$1 OR o=$1",
                "SELECT a FROM t WHERE k=<> OR o=<>",
            ),
            (
                &[Postgres],
                "SELECT '?', \"$1\" FROM t WHERE k=?",
                "SELECT '?', \"$1\" FROM t WHERE k=<>",
            ),
            (&[MySql], "SELECT '?', `?` FROM t WHERE k=?", "SELECT '?', `?` FROM t WHERE k=<>"),
            (
                &Dialect::ALL,
                "SELECT 'it''s ?' FROM t WHERE k=?",
                "SELECT 'it''s ?' FROM t WHERE k=<>",
            ),
            (&[MySql], "SELECT 'it\\'s ?' FROM t WHERE k=?", "SELECT 'it\\'s ?' FROM t WHERE k=<>"),
            (
                &Dialect::ALL,
                "SELECT a -- why?\nFROM t WHERE k=?",
                "SELECT a -- why?\nFROM t WHERE k=<>",
            ),
            (&[MySql], "SELECT a # why?\nFROM t WHERE k=?", "SELECT a # why?\nFROM t WHERE k=<>"),
            (
                &Dialect::ALL,
                "SELECT 'ü' /* ?\n? */ FROM t WHERE k=?",
                "SELECT 'ü' /* ?\n? */ FROM t WHERE k=<>",
            ),
            (
                &[Postgres],
                "SELECT a /* ? /* $2 */ ? */ FROM t WHERE k=?",
                "SELECT a /* ? /* $2 */ ? */ FROM t WHERE k=<>",
            ),
            (
                &[Postgres],
                "SELECT $$?$$, $q$ $2 $q$ FROM t WHERE k=$1",
                "SELECT $$?$$, $q$ $2 $q$ FROM t WHERE k=<>",
            ),
            (&[Postgres], "SELECT doc FROM t WHERE tags ? $1", "SELECT doc FROM t WHERE tags ? <>"),
            (&[Sqlite], "SELECT a FROM t WHERE k = ?1", "SELECT a FROM t WHERE k = <>"),
            (
                &[Postgres],
                "SELECT col$2 FROM t WHERE k=$1::int",
                "SELECT col$2 FROM t WHERE k=<>::int",
            ),
        ] {
            for dialect in dialects {
                let statement = Statement::parse(query, *dialect);
                let statement = statement.unwrap_or_else(|e| panic!("{query} as {dialect:?}: {e}"));
                assert_eq!(statement.with("<>"), expected, "{dialect:?}");
            }
        }
    }

    #[test]
    fn queries_that_teams_write_are_taken() {
        for (dialect, query) in [
            (Postgres, "SELECT row_to_json(s)::text FROM students s WHERE name = $1"),
            (Postgres, "WITH s AS (SELECT * FROM t WHERE k = $1) SELECT jsonb_agg(s) FROM s"),
            (Postgres, "SELECT v, k FROM t WHERE k = ANY($1)"),
            (Postgres, "SELECT doc #>> '{a,b}' FROM t WHERE k = $1 ORDER BY at DESC LIMIT 1"),
            (Postgres, "SELECT d->>'a' FROM t, LATERAL (SELECT 1) AS x WHERE lower(k) = lower($1)"),
            (
                Postgres,
                "SELECT count(*) FILTER (WHERE ok) OVER w FROM t WHERE k = $1 WINDOW w AS ()",
            ),
            (Postgres, "SELECT v FROM t UNION ALL (SELECT $1 EXCEPT VALUES (1))"),
            (MySql, "SELECT v FROM t WHERE CAST(id AS CHAR) = ?"),
            (MySql, "SELECT JSON_OBJECT('a', a) FROM `t` WHERE k = ? COLLATE utf8mb4_bin LIMIT 1"),
            (MySql, "SELECT v, k FROM t USE INDEX (k) WHERE k IN (?)"),
            (Sqlite, "SELECT json_object('a', a) FROM t WHERE k = ?1 AND k GLOB 'a*'"),
            (Sqlite, "WITH s(n, v) AS (VALUES ('Tom', '630')) SELECT v FROM s WHERE n = ?"),
        ] {
            Statement::parse(query, dialect).unwrap_or_else(|e| panic!("{query}: {e}"));
        }
    }

    #[test]
    fn a_query_without_exactly_one_parameter_is_refused() {
        for (query, problem) in [
            ("SELECT 1", "no parameter"),
            ("", "no parameter"),
            ("SELECT '$1'", "no parameter"),
            ("SELECT a FROM t WHERE k=$1 AND l=$2", "more than one parameter"),
            ("SELECT a FROM t WHERE k=$2", "more than one parameter"),
            ("SELECT a FROM t WHERE k=? AND l=?", "more than one ?"),
            ("SELECT a FROM t WHERE k=$1; DROP TABLE t", "more than one statement"),
            ("SELECT 'a FROM t WHERE k=$1", "Unterminated"),
            ("SELECT a /* FROM t WHERE k=$1", "Unexpected EOF"),
            ("SELECT $q$ FROM t WHERE k=$1", "Unterminated"),
            ("SELEC a FROM t WHERE k=$1", "Expected"),
        ] {
            let error = Statement::parse(query, Postgres).expect_err(query);
            assert!(error.to_string().contains(problem), "{query}: {error}");
        }
    }

    #[test]
    fn a_query_that_writes_is_refused_in_every_dialect() {
        for query in [
            "DELETE FROM t WHERE k = ? RETURNING k",
            "UPDATE t SET v = 1 WHERE k = ?",
            "INSERT INTO t VALUES (?)",
            "WITH s AS (SELECT 1) DELETE FROM t WHERE k = ?",
            "SELECT v INTO u FROM t WHERE k = ?",
            "SELECT v FROM t WHERE k = ? FOR UPDATE",
            "DROP TABLE t -- ?",
            "CALL f(?)",
        ] {
            for dialect in Dialect::ALL {
                Statement::parse(query, dialect).expect_err(query);
            }
        }
        for (dialect, query) in [
            (Postgres, "WITH gone AS (DELETE FROM t WHERE k = $1 RETURNING k) SELECT k FROM gone"),
            (Postgres, "SELECT set_config('default_transaction_read_only', 'off', false) || $1"),
            (MySql, "SELECT v FROM t WHERE k = ? INTO OUTFILE '/tmp/t'"),
            (MySql, "SELECT v FROM t WHERE k = ? /*! INTO OUTFILE '/tmp/t' */"),
            (MySql, "SELECT 'it\\'; DELETE FROM t; -- ' FROM t WHERE k = ?'"),
            (Sqlite, "PRAGMA query_only = ?"),
        ] {
            Statement::parse(query, dialect).expect_err(query);
        }
    }
}
