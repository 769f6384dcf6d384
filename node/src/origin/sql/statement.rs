//! Finds the one parameter of a query without a database: `?` or `$1` outside of strings, quoted
//! names and comments. Each database gets it in its own syntax.

use crate::origin::error::Error;

/// A query with one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// The texts around the parameter's places, so one more than there are places.
    texts: Vec<String>,
}

impl Statement {
    /// Finds the parameter.
    pub(super) fn parse(query: &str) -> Result<Self, Error> {
        let refuse = |problem: &str| Err(Error::Statement { problem: problem.to_owned() });
        let query = query.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
        let marks = match marks(query) {
            Ok(marks) => marks,
            Err(problem) => return refuse(problem),
        };
        // PostgreSQL has operators with `?`, so `?` is a parameter only if there is no `$1`.
        let numbered = marks.iter().any(|mark| mark.number.is_some());
        let places: Vec<&Mark> =
            marks.iter().filter(|mark| mark.number.is_some() == numbered).collect();
        if places.is_empty() {
            return refuse("it has no parameter for the key: write $1 or ?");
        }
        if places.iter().any(|mark| mark.number.is_some_and(|number| number != 1)) {
            return refuse("it has more than one parameter: the key is $1, and there is no other");
        }
        if !numbered && places.len() > 1 {
            return refuse("it has more than one ?: write $1 to use the key again");
        }
        let mut texts = Vec::with_capacity(places.len() + 1);
        let mut from = 0;
        for place in &places {
            texts.push(query[from..place.start].to_owned());
            from = place.end;
        }
        texts.push(query[from..].to_owned());
        Ok(Self { texts })
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

/// A `?` or `$n` in a query.
struct Mark {
    start: usize,
    end: usize,
    /// The n of `$n` or of SQLite's `?n`.
    number: Option<u32>,
}

fn marks(query: &str) -> Result<Vec<Mark>, &'static str> {
    let bytes = query.as_bytes();
    let mut marks = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        at += match byte {
            b'\'' | b'"' | b'`' => quoted(rest, byte).ok_or("a quote is not closed")?,
            b'-' if rest.starts_with(b"--") => {
                rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())
            }
            b'/' if rest.starts_with(b"/*") => {
                block_comment(rest).ok_or("a comment is not closed")?
            }
            b';' => return Err("it is more than one statement"),
            b'$' if at > 0 && is_word(bytes[at - 1]) => 1,
            b'$' | b'?' => {
                let digits = rest[1..].iter().take_while(|b| b.is_ascii_digit()).count();
                let number = query[at + 1..at + 1 + digits].parse().ok();
                if number.is_some() || byte == b'?' {
                    marks.push(Mark { start: at, end: at + 1 + digits, number });
                    1 + digits
                } else {
                    dollar_quoted(rest)?
                }
            }
            _ => 1,
        };
    }
    Ok(marks)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Length of a quoted string or name. A doubled quote does not end it.
fn quoted(rest: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    loop {
        at += rest.get(at..)?.iter().position(|b| *b == quote)? + 1;
        if rest.get(at) != Some(&quote) {
            return Some(at);
        }
        at += 1;
    }
}

/// Length of a block comment. PostgreSQL's nest.
fn block_comment(rest: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    loop {
        match rest.get(at..at + 2)? {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Length of PostgreSQL's `$tag$ ... $tag$`, or of a single dollar sign.
fn dollar_quoted(rest: &[u8]) -> Result<usize, &'static str> {
    let tag = 1 + rest[1..].iter().take_while(|b| is_word(**b)).count();
    if rest.get(tag) != Some(&b'$') {
        return Ok(1);
    }
    let (delimiter, body) = rest.split_at(tag + 1);
    let end = body.windows(delimiter.len()).position(|window| window == delimiter);
    end.map(|end| end + 2 * delimiter.len()).ok_or("a dollar quote is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parameter_is_found_in_every_place() {
        for (query, expected) in [
            ("SELECT score FROM s WHERE name = $1", "SELECT score FROM s WHERE name = <>"),
            ("SELECT score FROM s WHERE name = ? ;\n", "SELECT score FROM s WHERE name = <>"),
            ("SELECT a FROM t WHERE k=$1 OR other=$1", "SELECT a FROM t WHERE k=<> OR other=<>"),
            (
                "SELECT '?' , \"$1\", `?` FROM t WHERE k=?",
                "SELECT '?' , \"$1\", `?` FROM t WHERE k=<>",
            ),
            ("SELECT 'it''s ?' FROM t WHERE k=?", "SELECT 'it''s ?' FROM t WHERE k=<>"),
            ("SELECT a -- why?\nFROM t WHERE k=?", "SELECT a -- why?\nFROM t WHERE k=<>"),
            (
                "SELECT a /* ? /* $2 */ ? */ FROM t WHERE k=?",
                "SELECT a /* ? /* $2 */ ? */ FROM t WHERE k=<>",
            ),
            (
                "SELECT $$?$$, $q$ $2 $q$ FROM t WHERE k=$1",
                "SELECT $$?$$, $q$ $2 $q$ FROM t WHERE k=<>",
            ),
            ("SELECT doc FROM t WHERE tags ? $1", "SELECT doc FROM t WHERE tags ? <>"),
            ("SELECT a FROM t WHERE k = ?1", "SELECT a FROM t WHERE k = <>"),
            ("SELECT col$2 FROM t WHERE k=$1::int", "SELECT col$2 FROM t WHERE k=<>::int"),
        ] {
            let statement = Statement::parse(query).expect(query);
            assert_eq!(statement.with("<>"), expected);
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
            ("SELECT 'a FROM t WHERE k=$1", "not closed"),
            ("SELECT a /* FROM t WHERE k=$1", "not closed"),
            ("SELECT $q$ FROM t WHERE k=$1", "not closed"),
        ] {
            let error = Statement::parse(query).expect_err(query);
            assert!(error.to_string().contains(problem), "{query}: {error}");
        }
    }
}
