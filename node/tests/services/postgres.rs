//! The SQL origin against a real PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use larder_node::origin::{Error, Loaded, Loader, Requester, build};
use larder_proto::contract::{Origin, OriginLimits, SqlOrigin};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::sql::{Credential, parts, replace_part, tagged, unused_address, value};
use super::{PATIENCE, service};

/// A schema of its own in the server. The test drops it at the end.
struct Schema {
    name: String,
    pool: PgPool,
    /// Selects this schema.
    url: String,
    credential: Credential,
}

impl Schema {
    /// `None` if no server is configured.
    async fn new(name: &str, setup: &str) -> Option<Self> {
        let url = service("LARDER_POSTGRES")?;
        let pool = PgPool::connect(&url).await.expect("LARDER_POSTGRES is the URL of a server");
        let name = format!("larder_{name}_{}", std::process::id());
        let setup = format!("CREATE SCHEMA {name}; SET search_path TO {name}; {setup};");
        sqlx::raw_sql(AssertSqlSafe(setup)).execute(&pool).await.expect("a new schema");
        let joint = if url.contains('?') { '&' } else { '?' };
        let options = format!("options[search_path]={name}&application_name={name}");
        let url = format!("{url}{joint}{options}");
        Some(Self { name, pool, credential: Credential::new(&url), url })
    }

    fn loader(&self, query: &str, concurrency: u32) -> Arc<dyn Loader> {
        self.credential.loader(query, concurrency, 5_000)
    }

    /// Loads one key with one query.
    async fn load(&self, query: &str, key: &[u8]) -> Result<Loaded, Error> {
        self.loader(query, 1).load(key).await
    }

    async fn drop(self) {
        let drop = format!("DROP SCHEMA {} CASCADE", self.name);
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&self.pool).await.expect("dropped");
    }
}

/// A TCP proxy to the server that passes one connection for each permit.
struct GatedProxy {
    address: String,
    permits: Arc<Semaphore>,
    /// Connections to the proxy so far.
    connections: Arc<AtomicUsize>,
}

impl GatedProxy {
    async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound").to_string();
        let (permits, connections) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let (server, gate, count) = (server.to_owned(), permits.clone(), connections.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.expect("never closed").forget();
                let mut far = TcpStream::connect(&server).await.expect("up");
                tokio::spawn(async move { copy_bidirectional(&mut near, &mut far).await });
            }
        });
        Self { address, permits, connections }
    }
}

#[tokio::test]
async fn values_of_every_type_become_bytes() {
    let Some(schema) = Schema::new("types", "CREATE TYPE mood AS ENUM ('fine')").await else {
        return;
    };
    for (expression, expected) in [
        ("'text'::text", "text"),
        ("'char'::varchar(9)", "char"),
        ("7::int2", "7"),
        ("-70000::int4", "-70000"),
        ("9007199254740993::int8", "9007199254740993"),
        ("0.1::float8", "0.1"),
        ("123456789012345678901234567890.5::numeric", "123456789012345678901234567890.5"),
        ("true", "true"),
        ("'{\"a\": 1}'::json", "{\"a\": 1}"),
        ("'{\"a\":1}'::jsonb", "{\"a\": 1}"),
        ("'6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        ("'2026-11-21 14:00:00'::timestamp", "2026-11-21 14:00:00"),
        ("ARRAY[1,2]", "{1,2}"),
        ("'fine'::mood", "fine"),
        ("''::text", ""),
        ("'\\x6869'::bytea", "hi"),
    ] {
        let query = format!("SELECT {expression}, 'more' WHERE $1 = 'k' -- the end");
        let loaded = schema.load(&query, b"k").await.expect(expression);
        assert_eq!(loaded, value(expected), "{expression}");
    }
    let raw = schema.load("SELECT '\\x00ff'::bytea WHERE $1 <> ''", b"k").await.expect("a row");
    assert_eq!(raw, Loaded::Value(bytes::Bytes::from_static(b"\x00\xff")));
    let null = schema.load("SELECT NULL::int WHERE $1 <> ''", b"k").await.expect("a row");
    assert_eq!(null, Loaded::Absent);
    schema.drop().await;
}

#[tokio::test]
async fn the_tags_column_is_an_array_or_a_text() {
    let Some(schema) = Schema::new("tags", "CREATE TYPE mood AS ENUM ('fine')").await else {
        return;
    };
    for (columns, expected) in [
        ("7, ARRAY['a', 'New York', NULL] AS tags", tagged("7", &["a", "New York"])),
        ("7, 'more' AS more, 'a, b,c' AS TAGS", tagged("7", &["a", "b", "c"])),
        ("7, ARRAY['a']::varchar(9)[] AS \"Tags\"", tagged("7", &["a"])),
        ("7, ARRAY[1, 2] AS tags", tagged("7", &["1", "2"])),
        ("7, ARRAY['fine'::mood] AS tags", tagged("7", &["fine"])),
        ("7, 42 AS tags", tagged("7", &["42"])),
        ("7 AS tags, 'a' AS tags", tagged("7", &["a"])),
        ("7, NULL::text[] AS tags", value("7")),
        ("7, '{}'::text[] AS tags", value("7")),
        ("7, NULL AS tags", value("7")),
        ("NULL::int, 'a' AS tags", Loaded::Absent),
    ] {
        let query = format!("SELECT {columns} WHERE $1 = 'k' -- the end");
        let loaded = schema.credential.load_tagged(&query).await.expect(columns);
        assert_eq!(loaded, expected, "{columns}");
    }
    let error = schema.credential.load_tagged("SELECT 7, 8 AS tag WHERE $1 = 'k'").await;
    assert_eq!(error.expect_err("no such column").kind(), "tags_column");
    schema.drop().await;
}

#[tokio::test]
async fn keys_of_every_type_find_their_row() {
    let setup = "CREATE TABLE t (name text, id int4 UNIQUE, wide int8, raw bytea, uid uuid,
            amount numeric, day date);
        INSERT INTO t VALUES ('Zoë', 42, 5000000000, '\\xff00',
            '6ba7b810-9dad-11d1-80b4-00c04fd430c8', 1.50, '2026-11-21')";
    let Some(schema) = Schema::new("keys", setup).await else { return };
    for (column, key) in [
        ("name", "Zoë".as_bytes()),
        ("id", b"42"),
        ("wide", b"5000000000"),
        ("raw", b"\xff\x00"),
        ("uid", b"6BA7B810-9DAD-11D1-80B4-00C04FD430C8"),
        ("amount", b"1.5"),
        ("day", b"2026-11-21"),
    ] {
        let query = format!("SELECT name FROM t WHERE {column} = $1;");
        assert_eq!(schema.load(&query, key).await.expect(column), value("Zoë"), "{column}");
        for unknown in ["", "x' OR 'a' = 'a", "99999999999999999999", "2026-02-31", "$1"] {
            let loaded = schema.load(&query, unknown.as_bytes()).await.expect(unknown);
            assert_eq!(loaded, Loaded::Absent, "{column} = {unknown}");
        }
        let loaded = schema.load(&query, b"\xfe\0").await.expect("no such key");
        assert_eq!(loaded, Loaded::Absent, "{column}");
    }
    let twice = "SELECT name FROM t WHERE id = $1 OR wide = $1";
    assert_eq!(schema.load(twice, b"42").await.expect("a row"), value("Zoë"));
    // The cast form of the query still uses the index of the column.
    let explain = "EXPLAIN SELECT name FROM t WHERE id = ((42::text)::int4)";
    let plan: Vec<(String,)> = {
        let set = format!("SET enable_seqscan = off; SET search_path TO {}", schema.name);
        let mut connection = schema.pool.acquire().await.expect("up");
        sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *connection).await.expect("set");
        sqlx::query_as(explain).fetch_all(&mut *connection).await.expect("a plan")
    };
    assert!(plan.iter().any(|(line,)| line.contains("Index Scan")), "{plan:?}");
    schema.drop().await;
}

#[tokio::test]
async fn one_query_loads_keys_of_every_type() {
    let setup = "CREATE TYPE mood AS ENUM ('fine', 'low');
        CREATE TABLE t (name text, id int4 UNIQUE, short varchar(9), raw bytea, uid uuid, mood mood);
        INSERT INTO t VALUES
            ('Zoë', 42, 'z', '\\xff00', '6ba7b810-9dad-11d1-80b4-00c04fd430c8', 'fine'),
            ('Tom', 7, 't', '\\x00', '6ba7b811-9dad-11d1-80b4-00c04fd430c8', 'low'),
            (NULL, 8, 'n', '\\x01', '6ba7b812-9dad-11d1-80b4-00c04fd430c8', NULL)";
    let Some(schema) = Schema::new("batch", setup).await else { return };
    let load = async |query: &str, keys: &[&[u8]]| {
        schema.credential.load_batch(query, keys).await.expect(query)
    };
    for (column, keys) in [
        ("name", [&b"Tom"[..], b"nobody", "Zoë".as_bytes()]),
        ("id", [b"7", b"0", b"42"]),
        ("short", [b"t", b"x", b"z"]),
        ("raw", [b"\x00", b"\xff", b"\xff\x00"]),
        (
            "uid",
            [
                b"6ba7b811-9dad-11d1-80b4-00c04fd430c8",
                b"6ba7b819-9dad-11d1-80b4-00c04fd430c8",
                b"6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            ],
        ),
    ] {
        let query = format!("SELECT name, {column} AS key FROM t WHERE {column} = ANY($1) -- end");
        assert_eq!(load(&query, &keys).await, ["Tom", "absent", "Zoë"], "{column}");
    }
    let by_mood = "SELECT name, mood AS \"Key\" FROM t WHERE mood = ANY($1)";
    assert_eq!(load(by_mood, &[b"low", b"fine"]).await, ["Tom", "Zoë"]);
    let tagged = "SELECT name, ARRAY['a', 'b'] AS tags, id AS key FROM t WHERE id = ANY($1)";
    let expected = [r#"b"Tom" [b"a", b"b"]"#, "absent"];
    assert_eq!(load(tagged, &[b"7", b"8"]).await, expected, "NULL is absent");
    schema.drop().await;
}

#[tokio::test]
async fn a_bad_key_of_a_batch_leaves_keys_without_a_row_to_loads_of_their_own() {
    let setup = "CREATE TABLE t (name text, id int4); INSERT INTO t VALUES ('Tom', 7), ('Zoë', 0)";
    let Some(schema) = Schema::new("bad", setup).await else { return };
    let load = |query: &'static str, keys: &'static [&'static [u8]]| {
        schema.credential.load_batch(query, keys)
    };
    let by_id = "SELECT name, id AS key FROM t WHERE id = ANY($1)";
    let by_name = "SELECT name, name AS key FROM t WHERE name = ANY($1)";
    assert_eq!(load(by_id, &[b"7", b"seven"]).await.expect("alone"), ["alone", "alone"]);
    let other = load(by_id, &[b"07", b"1"]).await.expect("a row");
    assert_eq!(other, ["alone", "alone"], "the row's key is 7");
    assert_eq!(load(by_name, &[b"Tom", b"\xff"]).await.expect("a row"), ["Tom", "absent"]);
    let divided = "SELECT 7 / id, name AS key FROM t WHERE name = ANY($1)";
    let keys: &[&[u8]] = &[b"Tom", "Zoë".as_bytes()];
    let loads = schema.credential.load_batch(divided, keys).await.expect("a row");
    assert_eq!(loads, ["1", "alone"], "the server sent the first row before the second one failed");
    for (query, kind, text) in [
        ("SELECT name, id AS key FROM t WHERE id = $1", "batch_statement", "write = ANY($1)"),
        ("SELECT name, id FROM t WHERE id = ANY($1)", "key_column", "no column \"key\""),
        ("SELECT name, id AS key FROM nowhere WHERE id = ANY($1)", "query", "does not exist"),
    ] {
        let error = load(query, &[b"7", b"8"]).await.expect_err(query);
        assert!(error.kind() == kind && error.to_string().contains(text), "{query}: {error}");
    }
    schema.drop().await;
}

#[tokio::test]
async fn an_origin_can_only_read() {
    let setup = "CREATE TABLE t (k text); INSERT INTO t VALUES ('a');
        CREATE FUNCTION put(k text) RETURNS text LANGUAGE sql
        AS 'INSERT INTO t VALUES (k) RETURNING k'";
    let Some(schema) = Schema::new("reads", setup).await else { return };
    for query in [
        "DELETE FROM t WHERE k = $1 RETURNING k",
        "WITH gone AS (DELETE FROM t WHERE k = $1 RETURNING k) SELECT k FROM gone",
        "SELECT put($1)",
        "SELECT k FROM t WHERE k = $1) AS x(y); DELETE FROM t WHERE (true",
    ] {
        let origin = Origin::Sql(SqlOrigin::new("db.url", query));
        let limits = OriginLimits::new(1, 5_000);
        if let Ok(loader) = build(&origin, &limits, &schema.credential.deps()) {
            let error = loader.load(b"a").await.expect_err(query);
            assert!(matches!(error.kind(), "ask" | "query"), "{query}: {error}");
        }
    }
    let left = schema.load("SELECT count(*) FROM t WHERE $1 <> ''", b"k").await.expect("a row");
    assert_eq!(left, value("1"));
    schema.drop().await;
}

#[tokio::test]
async fn there_are_no_more_connections_than_concurrent_loads() {
    let Some(schema) = Schema::new("pool", "").await else { return };
    let query = "SELECT (SELECT count(*) FROM pg_stat_activity
            WHERE application_name = current_setting('application_name'))
        FROM pg_sleep(0.02) WHERE $1 <> ''";
    let loader = schema.loader(query, 3);
    let keys: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let (deadline, mut most) = (Instant::now() + PATIENCE, 0);
    // Connections open slowly; those that are open serve in the meantime.
    while most < 3 {
        assert!(Instant::now() < deadline, "{most} connections at most");
        let loads = join_all(keys.iter().map(|key| loader.load(key.as_bytes()))).await;
        for loaded in loads {
            let Loaded::Value(count) = loaded.expect("a row") else { panic!("one row always") };
            let count: u32 = str::from_utf8(&count).expect("text").parse().expect("a count");
            most = most.max(count);
        }
    }
    assert_eq!(most, 3);
    schema.drop().await;
}

#[tokio::test]
async fn loads_continue_after_the_server_dropped_its_connections() {
    let Some(schema) = Schema::new("drops", "").await else { return };
    let loader = schema.loader("SELECT 'v' WHERE $1 = 'k'", 2);
    assert_eq!(loader.load(b"k").await.expect("a row"), value("v"));
    let kill = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{}'",
        schema.name
    );
    sqlx::raw_sql(AssertSqlSafe(kill)).execute(&schema.pool).await.expect("killed");
    let deadline = Instant::now() + PATIENCE;
    let mut failed = 0;
    while let Err(error) = loader.load(b"k").await {
        failed += 1;
        assert!(Instant::now() < deadline, "{error}");
        assert!(failed <= 2, "each broken connection fails one load at most: {error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    schema.drop().await;
}

#[tokio::test]
async fn an_error_says_what_is_wrong_with_a_database_without_its_password() {
    let Some(schema) = Schema::new("wrong", "CREATE TABLE t (k text)").await else { return };
    let (user, password, place) = parts(&schema.url);
    let (good, unused) = ("SELECT k FROM t WHERE k = $1", unused_address().await.to_string());
    let at = |old: &str, new: &str| Credential::new(&replace_part(&schema.url, old, new));
    for (credential, query, expected_kind, expected_text) in [
        (at(place, &unused), good, "connect", format!("{unused}: connection refused")),
        (at(password, "hunter2"), good, "login", format!("failed for user \"{user}\"")),
        (at("/postgres", "/nowhere"), good, "login", "database \"nowhere\" does not".into()),
        (
            at("", ""),
            "SELECT k FROM nowhere WHERE k = $1",
            "query",
            "relation \"nowhere\" does not exist".into(),
        ),
        (
            at("", ""),
            "SELECT nothing FROM t WHERE k = $1",
            "query",
            "column \"nothing\" does not exist".into(),
        ),
    ] {
        let (kind, text) = credential.failure(query).await;
        assert_eq!(kind, expected_kind, "{text}");
        assert!(text.contains(&expected_text), "{text}");
        assert!(!text.contains("hunter2") && !text.contains(password), "{text}");
    }
    // A resolver may answer or time out; the error names the host either way.
    let (_, text) = at(place, "no-such-host.invalid:5432").failure(good).await;
    assert!(text.contains("no connection to no-such-host.invalid:5432"), "{text}");
    schema.drop().await;
}

#[tokio::test]
async fn a_slowly_opening_connection_outlives_the_loads_that_wait_for_it() {
    let Some(schema) = Schema::new("slow", "").await else { return };
    let (_, _, place) = parts(&schema.url);
    let proxy = GatedProxy::to(place).await;
    let credential = Credential::new(&replace_part(&schema.url, place, &proxy.address));
    let loader = credential.guarded("SELECT 'v' WHERE $1 = 'k'", 1, 50);
    for _ in 0..5 {
        let error = loader.load(b"k", Requester::Application).await.expect_err("not connected yet");
        let text = format!("no connection to {} was made within 50 ms", proxy.address);
        assert_eq!(error.to_string(), text);
    }
    proxy.permits.add_permits(1);
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = loader.load(b"k", Requester::Application).await {
        assert!(Instant::now() < deadline, "{error}");
    }
    assert_eq!(proxy.connections.load(Ordering::SeqCst), 1, "all loads waited for one connection");
    schema.drop().await;
}

#[tokio::test]
async fn a_warm_loader_has_its_connection_before_the_first_load() {
    let Some(schema) = Schema::new("warm", "").await else { return };
    let loader = schema.loader("SELECT 'v' WHERE $1 = 'k'", 4);
    loader.warm();
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counted = sqlx::query_scalar::<_, i64>(count).bind(&schema.name);
        match counted.fetch_one(&schema.pool).await.expect("a count") {
            0 => assert!(Instant::now() < deadline, "no connection was opened"),
            connections => break assert_eq!(connections, 1),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(loader.load(b"k").await.expect("a row"), value("v"));
    schema.drop().await;
}

#[tokio::test]
async fn an_abandoned_query_keeps_its_connection_until_the_server_has_finished() {
    let Some(schema) = Schema::new("abandoned", "").await else { return };
    let query = "SELECT 'v' FROM (SELECT pg_sleep(CASE $1 WHEN 'slow' THEN 1 ELSE 0 END)) AS s";
    let loader = schema.credential.guarded(query, 1, 300);
    let deadline = Instant::now() + PATIENCE;
    while loader.load(b"k", Requester::Application).await.is_err() {
        assert!(Instant::now() < deadline, "never connected");
    }
    loader.load(b"slow", Requester::Application).await.expect_err("takes a second");
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
    let mut refused = 0;
    while loader.load(b"k", Requester::Application).await.is_err() {
        let counted = sqlx::query_scalar::<_, i64>(busy).bind(&schema.name);
        let connections = counted.fetch_one(&schema.pool).await.expect("a count");
        assert!(connections <= 1, "the server runs one query at most");
        refused += 1;
        assert!(Instant::now() < deadline, "the connection is usable again");
    }
    assert!(refused > 0, "the query was still running");
    schema.drop().await;
}
