//! The loader against SQLite files. `tests/services.rs` uses a real PostgreSQL and MariaDB.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::*;

const LIMITS: OriginLimits = OriginLimits::new(4, 2_000);

/// A database with a table of students, and a credentials folder that names it.
struct Demo {
    folder: tempfile::TempDir,
}

impl Demo {
    async fn new() -> Self {
        let demo = Self { folder: tempfile::tempdir().expect("a folder") };
        demo.database("a.db", "630").await;
        demo.point_at("a.db");
        demo
    }

    fn path(&self, file: &str) -> std::path::PathBuf {
        self.folder.path().join(file)
    }

    /// Makes the credential name `database`.
    fn point_at(&self, database: &str) {
        let url = format!("sqlite://{}\n", self.path(database).display());
        std::fs::write(self.path("students.url"), url).expect("written");
    }

    async fn database(&self, file: &str, tom: &str) {
        let options = SqliteConnectOptions::new().filename(self.path(file)).create_if_missing(true);
        let pool = SqlitePool::connect_with(options).await.expect("a new file");
        let setup = format!(
            "CREATE TABLE students (name TEXT PRIMARY KEY, score, id INTEGER UNIQUE);
             INSERT INTO students VALUES ('Tom', {tom}, 1), ('Zoë', 'text', 2),
                ('half', 0.5, 3), ('raw', x'00ff', 4), ('none', NULL, 5), ('empty', '', 6),
                ('big', zeroblob(2000), 7), (x'ff00', 'blob key', 8);"
        );
        sqlx::raw_sql(AssertSqlSafe(setup)).execute(&pool).await.expect("new tables");
        pool.close().await;
    }

    fn loader(&self, query: &str) -> SqlLoader {
        self.loader_of(&SqlOrigin::new("students.url", query))
    }

    /// A loader whose values have the tags in the column `tags`.
    fn tagging_loader(&self, query: &str) -> SqlLoader {
        let tags_column = Some("tags".to_owned());
        self.loader_of(&SqlOrigin { tags_column, ..SqlOrigin::new("students.url", query) })
    }

    fn loader_of(&self, origin: &SqlOrigin) -> SqlLoader {
        let credentials = Credentials::new(self.folder.path());
        SqlLoader::new(origin, &LIMITS, &credentials, 1_000).expect("a good query")
    }
}

use sqlx::AssertSqlSafe;

const QUERY: &str = "SELECT score FROM students WHERE name = $1";

fn value(bytes: &[u8]) -> Loaded {
    Loaded::Value(Bytes::copy_from_slice(bytes))
}

#[tokio::test]
async fn values_of_every_type_become_bytes() {
    let demo = Demo::new().await;
    let loader = demo.loader(QUERY);
    for (key, expected) in [
        ("Tom".as_bytes(), value(b"630")),
        ("Zoë".as_bytes(), value(b"text")),
        (b"half", value(b"0.5")),
        (b"raw", value(b"\x00\xff")),
        (b"none", Loaded::Absent),
        (b"empty", value(b"")),
        (b"nobody", Loaded::Absent),
        (b"\xff\x00", value(b"blob key")),
    ] {
        assert_eq!(loader.load(key).await.expect("a row or none"), expected, "{key:?}");
    }
    let error = loader.load(b"big").await.expect_err("more than a value may have");
    assert!(matches!(error, Error::TooLarge { max: 1_000 }));
}

#[tokio::test]
async fn a_key_is_data_and_never_part_of_the_query() {
    let demo = Demo::new().await;
    let loader = demo.loader("SELECT score FROM students WHERE name = ?");
    for key in ["Tom' OR '1'='1", "'; DROP TABLE students; --", "$1", "?", "%"] {
        assert_eq!(loader.load(key.as_bytes()).await.expect("no row"), Loaded::Absent, "{key}");
    }
    assert_eq!(loader.load(b"Tom").await.expect("still there"), value(b"630"));
}

#[tokio::test]
async fn an_integer_column_takes_a_textual_key() {
    let demo = Demo::new().await;
    let loader = demo.loader("SELECT name FROM students WHERE id = $1 OR id = $1");
    assert_eq!(loader.load(b"1").await.expect("a row"), value(b"Tom"));
    assert_eq!(loader.load(b"one").await.expect("none"), Loaded::Absent);
}

#[tokio::test]
async fn the_session_of_a_connection_is_read_only() {
    let demo = Demo::new().await;
    let loader = demo.loader("SELECT query_only FROM pragma_query_only WHERE ?1 <> ''");
    assert_eq!(loader.load(b"k").await.expect("a row"), value(b"1"));
}

#[tokio::test]
async fn the_tags_column_tags_values() {
    let demo = Demo::new().await;
    let loader = demo.tagging_loader(
        "SELECT score, id, CASE id WHEN 1 THEN 'course:7, course:9' WHEN 4 THEN 8 END AS Tags
         FROM students WHERE name = $1",
    );
    let tagged = |value: &'static str, tags: &[&'static str]| {
        let tags = tags.iter().map(|tag| Bytes::from_static(tag.as_bytes())).collect();
        Loaded::Tagged { value: Bytes::from_static(value.as_bytes()), tags }
    };
    let load = |key: &'static str| {
        let loader = &loader;
        async move { loader.load(key.as_bytes()).await.expect("a row or none") }
    };
    assert_eq!(load("Tom").await, tagged("630", &["course:7", "course:9"]));
    assert_eq!(load("half").await, value(b"0.5"), "NULL is no tag");
    assert_eq!(loader.load(b"raw").await.expect("a row"), {
        Loaded::Tagged { value: Bytes::from_static(b"\x00\xff"), tags: vec!["8".into()] }
    });
    assert_eq!(load("none").await, Loaded::Absent);
    assert_eq!(load("nobody").await, Loaded::Absent);
}

#[tokio::test]
async fn a_missing_tags_column_is_named() {
    let demo = Demo::new().await;
    for query in [QUERY, "SELECT score AS tags FROM students WHERE name = $1"] {
        let error = demo.tagging_loader(query).load(b"Tom").await.expect_err("no such column");
        assert_eq!(error.kind(), "tags_column");
        let text = "the query has no column \"tags\" after the value (check the CacheGroup's";
        assert!(error.to_string().starts_with(text), "{error}");
    }
}

/// A word or the value of each load.
fn words(loads: Vec<BatchedLoad>) -> Vec<String> {
    let word = |load| match load {
        BatchedLoad::Done(Loaded::Absent) => "absent".to_owned(),
        BatchedLoad::Done(Loaded::Value(value)) => String::from_utf8_lossy(&value).into_owned(),
        BatchedLoad::Done(Loaded::Tagged { value, tags }) => format!("{value:?} {tags:?}"),
        BatchedLoad::Failed(error) => error.kind().to_owned(),
        BatchedLoad::LoadAlone => "alone".to_owned(),
    };
    loads.into_iter().map(word).collect()
}

fn batch(query: &str) -> SqlOrigin {
    let batch = Some(SqlBatch { query: query.to_owned(), key_column: "name".to_owned() });
    SqlOrigin { batch, ..SqlOrigin::new("students.url", QUERY) }
}

#[tokio::test]
async fn one_query_loads_several_keys_each_with_its_own_outcome() {
    let demo = Demo::new().await;
    let keys = [&b"Tom"[..], b"Zo\xc3\xab", b"nobody", b"none", b"big", b"half", b"\xff\x00"];
    let keys = keys.map(Bytes::from_static);
    let expected = ["630", "text", "absent", "absent", "too_large", "0.5", "alone"];
    for list in ["$1", "?"] {
        let query = format!("SELECT score, name FROM students WHERE name IN ({list}) -- the end");
        let loads = demo.loader_of(&batch(&query)).load_batch(&keys).await.expect("rows");
        assert_eq!(words(loads), expected, "{query}");
    }
    let tags_column = Some("tags".to_owned());
    let query = "SELECT score, 'a b' AS tags, name FROM students WHERE name IN ($1) OR id IN ($1)";
    let tagged = demo.loader_of(&SqlOrigin { tags_column, ..batch(query) });
    let loads = tagged.load_batch(&keys[..3]).await.expect("rows");
    assert_eq!(words(loads), [r#"b"630" [b"a", b"b"]"#, r#"b"text" [b"a", b"b"]"#, "absent"]);
}

#[tokio::test]
async fn a_row_whose_key_was_not_requested_leaves_unnamed_keys_to_loads_of_their_own() {
    let demo = Demo::new().await;
    let query = "SELECT score, name FROM students WHERE name COLLATE NOCASE IN ($1)";
    let loader = demo.loader_of(&batch(query));
    let keys = ["tom", "half"].map(Bytes::from);
    assert_eq!(words(loader.load_batch(&keys).await.expect("rows")), ["alone", "0.5"]);
}

#[tokio::test]
async fn an_unusable_batch_query_is_named() {
    let demo = Demo::new().await;
    let keys = ["Tom", "half"].map(Bytes::from);
    let loader = demo.loader_of(&batch("SELECT score FROM students WHERE name IN ($1)"));
    let text = loader.load_batch(&keys).await.expect_err("no key").to_string();
    let expected = "the batch query has no column \"name\" after the value (check the CacheGroup's";
    assert!(text.starts_with(expected), "{text}");
    let refused = |query: &str, max_keys: u32| {
        let limits = OriginLimits { max_keys, ..LIMITS };
        let credentials = Credentials::new(demo.folder.path());
        SqlLoader::new(&batch(query), &limits, &credentials, 1_000).expect_err(query).to_string()
    };
    let none = refused("SELECT score, name FROM students", 100);
    assert_eq!(none, "the batch query is invalid: it has no parameter for the key: write $1 or ?");
    let places = vec!["name IN ($1)"; 33].join(" OR ");
    let many = refused(&format!("SELECT score, name FROM students WHERE {places}"), 1_000);
    assert!(many.contains("33792 parameters"), "{many}");
}

#[tokio::test]
async fn a_changed_credential_is_used_within_a_second() {
    let demo = Demo::new().await;
    demo.database("b.db", "640").await;
    let loader = demo.loader(QUERY);
    assert_eq!(loader.load(b"Tom").await.expect("a row"), value(b"630"));
    demo.point_at("b.db");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let loaded = loader.load(b"Tom").await.expect("one of the two");
        if loaded == value(b"640") {
            break;
        }
        assert!(Instant::now() < deadline, "still the old database");
        tokio::task::yield_now().await;
    }
    // Without its file the previous credential stays in use.
    std::fs::remove_file(demo.path("students.url")).expect("there");
    assert_eq!(loader.load(b"Tom").await.expect("kept"), value(b"640"));
}

#[tokio::test]
async fn errors_name_what_is_missing_without_the_credential() {
    let demo = Demo::new().await;
    let loader = demo.loader("SELECT nowhere FROM students WHERE name = $1");
    let error = loader.load(b"Tom").await.expect_err("no such column");
    assert_eq!(error.kind(), "query");
    assert!(error.to_string().contains("no such column: nowhere"), "{error}");

    let loader = demo.loader(QUERY);
    let url = demo.path("students.url");
    for (text, kind, shown) in [
        ("mongodb://user:hunter2@host/db", "url", "none of postgres, mysql and sqlite"),
        ("postgres://user:hunter2@host:port/db", "url", "not a PostgreSQL URL"),
        ("hunter2", "url", "not a URL"),
    ] {
        std::fs::write(&url, text).expect("written");
        let error = loader.load(b"Tom").await.expect_err("no database");
        assert_eq!(error.kind(), kind);
        let text = format!("{error} {error:?}");
        assert!(text.contains(shown) && !text.contains("hunter2"), "{text}");
    }
    std::fs::remove_file(&url).expect("there");
    assert_eq!(loader.load(b"Tom").await.expect_err("no credential").kind(), "credential");
    // The file appears late.
    demo.point_at("a.db");
    assert_eq!(loader.load(b"Tom").await.expect("a row"), value(b"630"));

    let missing = format!("sqlite://{}", Path::new("/nonexistent/hunter2.db").display());
    std::fs::write(&url, missing).expect("written");
    let error = demo.loader(QUERY).load(b"Tom").await.expect_err("no file");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    let expected = "no connection to the SQLite file: unable to open database file";
    assert_eq!(error.to_string(), expected);
}
