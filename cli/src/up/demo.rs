//! The demo database: a SQLite table `students` of names and scores, made on first use, with the
//! same rows every time.

use std::path::{Path, PathBuf};

use anyhow::Context;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection, SqliteConnection};

/// The scores of groupcache's first tutorials.
const FIRST: [(&str, i64); 3] = [("Tom", 630), ("Jack", 589), ("Sam", 567)];
/// Rows after the first ones: `student-0001` and on.
const NUMBERED: i64 = 4_000;
/// Part of the file's name; each change of the table raises it.
const VERSION: u32 = 1;

/// The database's path below `directory`; makes the database on first use.
///
/// # Errors
/// The folder cannot be written, or the file is not such a database.
pub(super) async fn make(directory: &Path) -> anyhow::Result<PathBuf> {
    let path = directory.join(format!("demo-{VERSION}.sqlite"));
    if !path.exists() {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("{} cannot be made", directory.display()))?;
        // Filled in a folder of its own and then moved, so that an interrupted start leaves
        // neither half a table nor SQLite's journal.
        let folder = tempfile::Builder::new()
            .prefix("demo")
            .tempdir_in(directory)
            .with_context(|| format!("{} cannot be written", directory.display()))?;
        let filled = folder.path().join("filled");
        fill(&filled).await.with_context(|| format!("{} cannot be made", path.display()))?;
        std::fs::rename(&filled, &path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
    }
    let rows = count(&path).await.with_context(|| {
        format!("{} cannot be read; remove it and it is made again", path.display())
    })?;
    anyhow::ensure!(
        rows > 0,
        "{} holds no students; remove it and it is made again",
        path.display()
    );
    Ok(path)
}

/// The URL by which members read it.
pub(super) fn url(path: &Path) -> String {
    format!("sqlite://{}?mode=ro", path.display())
}

async fn fill(path: &Path) -> Result<(), sqlx::Error> {
    // Not the write-ahead log, a second file that a move would leave behind.
    let options = options(path).create_if_missing(true).journal_mode(SqliteJournalMode::Delete);
    let mut connection = options.connect().await?;
    sqlx::query(
        "CREATE TABLE students (name TEXT PRIMARY KEY, score INTEGER NOT NULL) WITHOUT ROWID",
    )
    .execute(&mut connection)
    .await?;
    let mut transaction = connection.begin().await?;
    let numbered = (1..=NUMBERED).map(|n| (format!("student-{n:04}"), score(n)));
    let first = FIRST.map(|(name, score)| (name.to_owned(), score));
    for (name, score) in first.into_iter().chain(numbered) {
        sqlx::query("INSERT INTO students (name, score) VALUES ($1, $2)")
            .bind(name)
            .bind(score)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    connection.close().await
}

async fn count(path: &Path) -> Result<i64, sqlx::Error> {
    let mut connection: SqliteConnection = options(path).read_only(true).connect().await?;
    let rows =
        sqlx::query_scalar("SELECT count(*) FROM students").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(rows)
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path)
}

/// A number that looks like a score, the same in every run.
fn score(n: i64) -> i64 {
    (n * 7_919 + 104_729) % 701
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_table_is_made_once_and_has_the_same_rows_every_time() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = make(directory.path()).await.expect("made");
        let first = std::fs::metadata(&path).expect("there").modified().expect("known");
        make(directory.path()).await.expect("found");
        let files = std::fs::read_dir(directory.path()).expect("there").count();
        assert_eq!(files, 1, "nothing but the database is left");
        assert_eq!(std::fs::metadata(&path).expect("there").modified().expect("known"), first);
        assert_eq!(count(&path).await.expect("readable"), 4_003);

        // The sample's query, word for word, with the key as its only parameter.
        let mut connection = options(&path).connect().await.expect("opens");
        for (name, expected) in [("Tom", Some(630)), ("student-0001", Some(488)), ("Nobody", None)]
        {
            let score: Option<i64> =
                sqlx::query_scalar("SELECT score FROM students WHERE name = $1")
                    .bind(name)
                    .fetch_optional(&mut connection)
                    .await
                    .expect("a valid query");
            assert_eq!(score, expected, "{name}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_database_is_named_with_what_to_do() {
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("demo-1.sqlite");
        std::fs::write(&path, "not a database at all, but long enough to be looked at")
            .expect("ok");
        let error = make(directory.path()).await.expect_err("garbage");
        let text = error.to_string();
        assert!(text.ends_with("demo-1.sqlite cannot be read; remove it and it is made again"));
    }
}
