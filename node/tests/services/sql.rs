//! What the tests of both SQL databases share.

use std::sync::Arc;

use larder_node::origin::{
    BatchedLoad, Credentials, Error, Guard, Loaded, Loader, LoaderDeps, Targets, build,
};
use larder_proto::contract::{Origin, OriginLimits, SqlBatch, SqlOrigin};
use larder_runtime::clock::Clock;

/// A credentials folder that names one database.
pub(super) struct Credential(tempfile::TempDir);

impl Credential {
    pub(super) fn new(url: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("db.url"), url).expect("written");
        Self(folder)
    }

    /// The loader of a group that reads this database.
    pub(super) fn loader(&self, query: &str, concurrency: u32, timeout_ms: u64) -> Arc<dyn Loader> {
        let origin = Origin::Sql(SqlOrigin::new("db.url", query));
        let limits = OriginLimits::new(concurrency, timeout_ms);
        build(&origin, &limits, &self.deps()).expect("a good query")
    }

    /// [`Credential::loader`] behind its guard, which ends loads that time out.
    pub(super) fn guarded(&self, query: &str, concurrency: u32, timeout_ms: u64) -> Guard {
        let loader = self.loader(query, concurrency, timeout_ms);
        Guard::new(loader, &OriginLimits::new(concurrency, timeout_ms), Clock::start())
    }

    /// Loads the key `k` with the tags in the query's column `tags`.
    pub(super) async fn load_tagged(&self, query: &str) -> Result<Loaded, Error> {
        let tags_column = Some("tags".to_owned());
        let origin = Origin::Sql(SqlOrigin { tags_column, ..SqlOrigin::new("db.url", query) });
        let limits = OriginLimits::new(1, 5_000);
        let loader = build(&origin, &limits, &self.deps()).expect("a good query");
        loader.load(b"k").await
    }

    /// Loads keys with one query, whose column `key` has the key and whose column `tags` the tags.
    /// A word or the value for each key.
    pub(super) async fn load_batch(
        &self,
        query: &str,
        keys: &[&[u8]],
    ) -> Result<Vec<String>, Error> {
        let batch = Some(SqlBatch { query: query.to_owned(), key_column: "key".to_owned() });
        let tags_column = query.contains("tags").then(|| "tags".to_owned());
        let single = SqlOrigin::new("db.url", "SELECT 1 WHERE $1 = 'k'");
        let origin = Origin::Sql(SqlOrigin { batch, tags_column, ..single });
        let limits = OriginLimits::new(1, 5_000);
        let loader = build(&origin, &limits, &self.deps()).expect("a good query");
        let keys: Vec<_> = keys.iter().map(|key| bytes::Bytes::copy_from_slice(key)).collect();
        let loads = loader.batch().expect("a batch").load_batch(&keys).await?;
        Ok(loads.into_iter().map(word).collect())
    }

    pub(super) fn deps(&self) -> LoaderDeps {
        LoaderDeps {
            credentials: Credentials::new(self.0.path()),
            targets: Targets::default(),
            max_value_bytes: 1_000,
        }
    }

    /// Kind and text of the error of a load that must fail.
    pub(super) async fn failure(&self, query: &str) -> (&'static str, String) {
        let error = self.loader(query, 1, 2_000).load(b"k").await.expect_err(query);
        (error.kind(), error.to_string())
    }
}

fn word(load: BatchedLoad) -> String {
    match load {
        BatchedLoad::Done(Loaded::Absent) => "absent".to_owned(),
        BatchedLoad::Done(Loaded::Value(value)) => String::from_utf8_lossy(&value).into_owned(),
        BatchedLoad::Done(Loaded::Tagged { value, tags }) => format!("{value:?} {tags:?}"),
        BatchedLoad::Failed(error) => error.kind().to_owned(),
        BatchedLoad::LoadAlone => "alone".to_owned(),
    }
}

pub(super) fn value(bytes: impl AsRef<[u8]>) -> Loaded {
    Loaded::Value(bytes::Bytes::copy_from_slice(bytes.as_ref()))
}

pub(super) fn tagged(value: &'static str, tags: &[&'static str]) -> Loaded {
    let bytes = |text: &'static str| bytes::Bytes::from_static(text.as_bytes());
    Loaded::Tagged { value: bytes(value), tags: tags.iter().copied().map(bytes).collect() }
}

/// `url` with its first `old` replaced by `new`.
pub(super) fn replace_part(url: &str, old: &str, new: &str) -> String {
    assert!(url.contains(old), "the URL contains {old:?}");
    url.replacen(old, new, 1)
}

/// `user`, `password` and `host:port` of a URL of the tests' servers.
pub(super) fn parts(url: &str) -> (&str, &str, &str) {
    let (_, rest) = url.split_once("://").expect("a URL");
    let (login, rest) = rest.split_once('@').expect("a login");
    let (user, password) = login.split_once(':').expect("a password");
    (user, password, rest.split(['/', '?']).next().expect("a host"))
}

/// A loopback address on which nothing listens.
pub(super) async fn unused_address() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    listener.local_addr().expect("bound")
}
