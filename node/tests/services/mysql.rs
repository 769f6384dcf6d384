//! The SQL origin against a real MariaDB, which speaks MySQL's protocol.

use larder_node::origin::{Error, Loaded};
use sqlx::{AssertSqlSafe, MySqlPool};

use super::service;
use super::sql::{Credential, parts, replace_part, tagged, unused_address, value};

/// A database of its own in the server. The test drops it at the end.
struct Database {
    name: String,
    pool: MySqlPool,
    url: String,
    credential: Credential,
}

impl Database {
    /// `None` if no server is configured.
    async fn new(name: &str, setup: &[&str]) -> Option<Self> {
        let url = service("LARDER_MYSQL")?;
        let name = format!("larder_{name}_{}", std::process::id());
        let (server, _) = url.rsplit_once('/').expect("LARDER_MYSQL has the name of a database");
        let create = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4");
        let pool = MySqlPool::connect(&url).await.expect("LARDER_MYSQL is the URL of a server");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&pool).await.expect("a new database");
        pool.close().await;
        let url = format!("{server}/{name}");
        let pool = MySqlPool::connect(&url).await.expect("the new database");
        for statement in setup {
            sqlx::raw_sql(AssertSqlSafe(*statement)).execute(&pool).await.expect("set up");
        }
        Some(Self { name, pool, credential: Credential::new(&url), url })
    }

    /// Loads one key with one query.
    async fn load(&self, query: &str, key: impl AsRef<[u8]>) -> Result<Loaded, Error> {
        self.credential.loader(query, 1, 5_000).load(key.as_ref()).await
    }

    async fn drop(self) {
        let drop = format!("DROP DATABASE {}", self.name);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&self.pool).await.expect("dropped");
    }
}

#[tokio::test]
async fn mysql_values_of_every_type_become_bytes() {
    let setup = [
        "CREATE TABLE t (k VARCHAR(9) PRIMARY KEY, tiny TINYINT, yes BOOLEAN, small SMALLINT,
            num INT, big BIGINT, huge BIGINT UNSIGNED, dec_ DECIMAL(40,10), flt FLOAT, dbl DOUBLE,
            chr CHAR(5), txt TEXT, bin VARBINARY(9), raw BLOB, doc JSON, pick ENUM('a','b'),
            day DATE, at DATETIME(3), none INT, empty TEXT)",
        "INSERT INTO t VALUES ('k', -128, TRUE, -32768, 2147483647, -9007199254740993,
            18446744073709551615, 123456789012345678901234567890.5, 0.5, 0.1, 'char', 'Zoë 🦀',
            X'00FF', X'FF00FE', '{\"a\": 1}', 'b', '2026-11-21', '2026-11-21 14:00:00.250', NULL,
            '')",
    ];
    let Some(database) = Database::new("types", &setup).await else { return };
    for (column, expected) in [
        ("tiny", "-128".as_bytes()),
        ("yes", b"1"),
        ("small", b"-32768"),
        ("num", b"2147483647"),
        ("big", b"-9007199254740993"),
        ("huge", b"18446744073709551615"),
        ("dec_", b"123456789012345678901234567890.5000000000"),
        ("flt", b"0.5"),
        ("dbl", b"0.1"),
        ("chr", b"char"),
        ("txt", "Zoë 🦀".as_bytes()),
        ("bin", b"\x00\xff"),
        ("raw", b"\xff\x00\xfe"),
        ("doc", b"{\"a\": 1}"),
        ("pick", b"b"),
        ("CAST(day AS CHAR)", b"2026-11-21"),
        ("CAST(at AS CHAR)", b"2026-11-21 14:00:00.250"),
        ("empty", b""),
    ] {
        let query = format!("SELECT {column}, 'more' FROM t WHERE k = $1 -- the end");
        assert_eq!(database.load(&query, "k").await.expect(column), value(expected), "{column}");
    }
    let null = database.load("SELECT none FROM t WHERE k = ?", "k").await.expect("a row");
    assert_eq!(null, Loaded::Absent);
    for column in ["day", "at"] {
        let query = format!("SELECT {column} FROM t WHERE k = ?");
        let text = database.load(&query, "k").await.expect_err("no bytes").to_string();
        assert!(text.contains("cast it to text in the query"), "{text}");
    }
    database.drop().await;
}

#[tokio::test]
async fn mysql_keys_of_any_content_are_data() {
    let setup = [
        "CREATE TABLE t (name VARCHAR(99), id BIGINT UNIQUE, raw VARBINARY(99))",
        "INSERT INTO t VALUES ('Zoë', 42, X'FF00'), ('Tom', 7, X'00')",
    ];
    let Some(database) = Database::new("keys", &setup).await else { return };
    for (column, key) in [
        ("name", "Zoë".as_bytes()),
        ("id", b"42"),
        ("raw", b"\xff\x00"),
        ("CAST(id AS CHAR)", b"42"),
    ] {
        let query = format!("SELECT name FROM t WHERE {column} = $1;");
        assert_eq!(database.load(&query, key).await.expect(column), value("Zoë"), "{column}");
        for unknown in
            ["x' OR 'a' = 'a", "' OR 1=1 -- ", "\\' OR 1=1 #", "'; DROP TABLE t; --", "$1"]
        {
            let loaded = database.load(&query, unknown).await.expect(unknown);
            assert_eq!(loaded, Loaded::Absent, "{column} = {unknown}");
        }
    }
    let twice = "SELECT name FROM t WHERE id = $1 OR name = $1 ORDER BY id";
    assert_eq!(database.load(twice, "42").await.expect("a row"), value("Zoë"));
    let left = database.load("SELECT count(*) FROM t WHERE ? <> ''", "k").await.expect("a row");
    assert_eq!(left, value("2"));
    database.drop().await;
}

#[tokio::test]
async fn an_error_says_what_is_wrong_with_a_mysql_database_without_its_password() {
    let setup = ["CREATE TABLE t (k TEXT)"];
    let Some(database) = Database::new("wrong", &setup).await else { return };
    let (user, password, place) = parts(&database.url);
    let (good, unused) = ("SELECT k FROM t WHERE k = ?", unused_address().await.to_string());
    let at = |old: &str, new: &str| Credential::new(&replace_part(&database.url, old, new));
    for (credential, query, expected_kind, expected_text) in [
        (at(place, &unused), good, "connect", format!("{unused}: connection refused")),
        (at(password, "hunter2"), good, "login", format!("Access denied for user '{user}'")),
        (at(&database.name, "nowhere"), good, "login", "Unknown database 'nowhere'".into()),
        (at("", ""), "SELECT k FROM nowhere WHERE k = ?", "query", "nowhere' doesn't exist".into()),
        (at("", ""), "SELECT nothing FROM t WHERE k = ?", "query", "column 'nothing'".into()),
    ] {
        let (kind, text) = credential.failure(query).await;
        assert_eq!(kind, expected_kind, "{text}");
        assert!(text.contains(&expected_text), "{text}");
        assert!(!text.contains("hunter2") && !text.contains(password), "{text}");
    }
    database.drop().await;
}

#[tokio::test]
async fn a_mysql_origin_can_only_read() {
    let setup = [
        "CREATE TABLE t (k VARCHAR(9))",
        "INSERT INTO t VALUES ('a')",
        "CREATE FUNCTION put(k VARCHAR(9)) RETURNS INT MODIFIES SQL DATA
         BEGIN INSERT INTO t VALUES (k); RETURN 1; END",
    ];
    let Some(database) = Database::new("reads", &setup).await else { return };
    let (_, problem) = database.credential.failure("SELECT put(?)").await;
    assert!(problem.contains("READ ONLY"), "{problem}");
    let left = database.load("SELECT count(*) FROM t WHERE ? <> ''", b"k").await.expect("a row");
    assert_eq!(left, value("1"));
    database.drop().await;
}

#[tokio::test]
async fn one_mysql_query_loads_several_keys() {
    let setup = [
        "CREATE TABLE t (name VARCHAR(99), id BIGINT UNIQUE, score INT)",
        "INSERT INTO t VALUES ('Zoë', 42, 1), ('Tom', 7, 2), ('Eve', 8, NULL)",
    ];
    let Some(database) = Database::new("batch", &setup).await else { return };
    let load = async |query: &str, keys: &[&[u8]]| {
        database.credential.load_batch(query, keys).await.expect(query)
    };
    for list in ["$1", "?"] {
        let query = format!("SELECT score, name AS `key` FROM t WHERE name IN ({list}) -- end");
        let keys = [&b"Tom"[..], b"nobody", b"Eve", "Zoë".as_bytes(), b"\xff"];
        let expected = ["2", "absent", "absent", "1", "alone"];
        assert_eq!(load(&query, &keys).await, expected, "{query}");
    }
    let by_id = "SELECT name, 'a' AS tags, id AS `key` FROM t WHERE id IN ($1) OR score IN ($1)";
    let expected = [r#"b"Tom" [b"a"]"#, "absent", r#"b"Zo\xc3\xab" [b"a"]"#];
    assert_eq!(load(by_id, &[b"7", b"9", b"42"]).await, expected);
    // The collation ignores case, so the row's key is not the requested one.
    let by_name = "SELECT score, name AS `key` FROM t WHERE name IN ($1)";
    assert_eq!(load(by_name, &[b"tom", "Zoë".as_bytes()]).await, ["alone", "1"]);
    for unknown in ["x') OR ('a' = 'a", "') OR 1=1 -- "] {
        assert_eq!(load(by_name, &[unknown.as_bytes(), b"Tom"]).await, ["absent", "2"]);
    }
    let error = database
        .credential
        .load_batch("SELECT score, name FROM t WHERE name IN ($1)", &[b"Tom", b"Eve"]);
    assert_eq!(error.await.expect_err("no such column").kind(), "key_column");
    database.drop().await;
}

#[tokio::test]
async fn the_mysql_tags_column_is_a_text() {
    let setup =
        ["CREATE TABLE t (k VARCHAR(9), course INT)", "INSERT INTO t VALUES ('k', 7), ('k', 9)"];
    let Some(database) = Database::new("tags", &setup).await else { return };
    for (columns, expected) in [
        (
            "COUNT(*), GROUP_CONCAT('course:', course ORDER BY course) AS Tags",
            &["course:7", "course:9"][..],
        ),
        ("COUNT(*), MIN(course) AS tags", &["7"]),
    ] {
        let query = format!("SELECT {columns} FROM t WHERE k = ? GROUP BY k");
        let loaded = database.credential.load_tagged(&query).await.expect(columns);
        assert_eq!(loaded, tagged("2", expected), "{columns}");
    }
    let null = "SELECT COUNT(*), NULL AS tags FROM t WHERE k = ?";
    assert_eq!(database.credential.load_tagged(null).await.expect("a row"), value("2"));
    let error = database.credential.load_tagged("SELECT COUNT(*) FROM t WHERE k = ?").await;
    assert_eq!(error.expect_err("no such column").kind(), "tags_column");
    database.drop().await;
}
