//! The contract of a group: the operator writes one to the registry for each CacheGroup, and
//! members serve the group accordingly. JSON in camel case, durations in milliseconds.
//!
//! A contract never contains a credential: [`SqlOrigin::url_file`] names a file in the member's
//! credentials folder.

use serde::{Deserialize, Serialize};

/// Everything a member needs to serve one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupContract {
    /// Name of the eviction policy, as in the CacheGroup: `Lru`, ...
    pub policy: String,
    /// Where values are loaded from.
    pub origin: Origin,
    /// How long values may be cached and served.
    pub freshness: Freshness,
    /// Limits on one member's use of the origin.
    pub origin_limits: OriginLimits,
    /// Bytes of each member's entries that no other group may use; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub guaranteed_bytes: u64,
    /// Generation of the CacheGroup that this contract represents, for status and logs.
    #[serde(default)]
    pub generation: i64,
}

/// Where values are loaded from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Origin {
    /// A row of a SQL database.
    Sql(SqlOrigin),
    /// The body of an HTTP response.
    Http(HttpOrigin),
}

/// A SQL database. The scheme of the URL selects PostgreSQL, MySQL or SQLite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqlOrigin {
    /// File in the credentials folder that contains the connection URL.
    pub url_file: String,
    /// A query whose only bound parameter is the key. The value is the first column of the first
    /// row.
    pub query: String,
    /// Name of the query's column with the tags of the value; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags_column: Option<String>,
    /// Loads several keys with one query; keys are loaded one by one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<SqlBatch>,
}

/// A query for several keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqlBatch {
    /// A query whose only bound parameter is the keys: an array in PostgreSQL, a list elsewhere. It
    /// has the columns of the query for one key, and one row per key.
    pub query: String,
    /// Name of a further column, which has the key.
    pub key_column: String,
}

/// An HTTP server. 200 carries the value, 404 means absent, any other status is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpOrigin {
    /// URL in which `{key}` is replaced by the percent-encoded key.
    pub url_template: String,
    /// Name of the response header with the tags of the value; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags_header: Option<String>,
    /// Loads several keys with one request; keys are loaded one by one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<HttpBatch>,
}

/// A request for several keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpBatch {
    /// URL to which the keys are posted as JSON.
    pub url: String,
}

impl SqlOrigin {
    /// An origin of values without tags, which loads keys one by one.
    pub fn new(url_file: impl Into<String>, query: impl Into<String>) -> Self {
        Self { url_file: url_file.into(), query: query.into(), tags_column: None, batch: None }
    }
}

impl HttpOrigin {
    /// An origin of values without tags, which loads keys one by one.
    pub fn new(url_template: impl Into<String>) -> Self {
        Self { url_template: url_template.into(), tags_header: None, batch: None }
    }
}

/// How long values may be cached and served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Freshness {
    /// TTL of a loaded value.
    pub ttl_ms: u64,
    /// The TTL is shortened by a random share of up to this percentage, so that values loaded
    /// together do not expire together.
    #[serde(default)]
    pub jitter_percent: u32,
    /// Time past the TTL during which a value may be served, marked stale, while one reload runs.
    #[serde(default)]
    pub stale_while_revalidate_ms: u64,
    /// Time past the TTL during which a value may be served, marked stale, if the origin fails.
    #[serde(default)]
    pub stale_if_error_ms: u64,
    /// TTL of "absent"; 0 means that absence is not cached.
    #[serde(default)]
    pub negative_ttl_ms: u64,
    /// How early reads reload a value that is still fresh, in percent of the time of one load;
    /// 0 means never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub early_refresh_percent: u32,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// Limits on one member's use of the origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OriginLimits {
    /// Maximum number of concurrent loads.
    pub concurrency: u32,
    /// Time-out of one load.
    pub timeout_ms: u64,
    /// Limit of loads per second; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<LoadRate>,
    /// Largest number of keys in one call of an origin that can load several.
    #[serde(default = "max_keys", skip_serializing_if = "is_max_keys")]
    pub max_keys: u32,
}

/// [`OriginLimits::max_keys`] if nothing else is set.
pub const MAX_KEYS: u32 = 100;

fn max_keys() -> u32 {
    MAX_KEYS
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_max_keys(keys: &u32) -> bool {
    *keys == MAX_KEYS
}

impl OriginLimits {
    /// Limits without a rate.
    #[must_use]
    pub const fn new(concurrency: u32, timeout_ms: u64) -> Self {
        Self { concurrency, timeout_ms, rate: None, max_keys: MAX_KEYS }
    }
}

/// A token bucket: how many loads may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadRate {
    /// Loads that may start per second in the long run.
    pub loads_per_second: u32,
    /// Loads that may start at once after a quiet time.
    pub burst: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The JSON is a contract between the operator and members of other versions.
    #[test]
    fn contract_keeps_its_json_form() {
        let contract = GroupContract {
            policy: "Lru".into(),
            origin: Origin::Sql(SqlOrigin::new(
                "students.url",
                "SELECT score FROM students WHERE name = $1",
            )),
            freshness: Freshness {
                ttl_ms: 60_000,
                jitter_percent: 10,
                stale_while_revalidate_ms: 30_000,
                stale_if_error_ms: 600_000,
                negative_ttl_ms: 5_000,
                early_refresh_percent: 0,
            },
            origin_limits: OriginLimits::new(32, 500),
            guaranteed_bytes: 0,
            generation: 1,
        };
        let text = serde_json::to_string(&contract).expect("plain data");
        assert_eq!(
            text,
            concat!(
                r#"{"policy":"Lru","origin":{"sql":{"urlFile":"students.url","#,
                r#""query":"SELECT score FROM students WHERE name = $1"}},"#,
                r#""freshness":{"ttlMs":60000,"jitterPercent":10,"staleWhileRevalidateMs":30000,"#,
                r#""staleIfErrorMs":600000,"negativeTtlMs":5000},"#,
                r#""originLimits":{"concurrency":32,"timeoutMs":500},"generation":1}"#
            )
        );
        assert_eq!(serde_json::from_str::<GroupContract>(&text).expect("own text"), contract);
        let contract = GroupContract { guaranteed_bytes: 1_048_576, ..contract };
        let text = serde_json::to_string(&contract).expect("plain data");
        let end = r#""guaranteedBytes":1048576,"generation":1}"#;
        assert!(text.ends_with(end), "{text}");
        assert_eq!(serde_json::from_str::<GroupContract>(&text).expect("own text"), contract);
    }

    #[test]
    fn origins_with_tags_keep_their_json_form() {
        for (origin, text) in [
            (
                Origin::Sql(SqlOrigin {
                    tags_column: Some("tags".into()),
                    ..SqlOrigin::new("a.url", "SELECT $1")
                }),
                r#"{"sql":{"urlFile":"a.url","query":"SELECT $1","tagsColumn":"tags"}}"#,
            ),
            (
                Origin::Http(HttpOrigin {
                    tags_header: Some("Cache-Tag".into()),
                    ..HttpOrigin::new("http://o/{key}")
                }),
                r#"{"http":{"urlTemplate":"http://o/{key}","tagsHeader":"Cache-Tag"}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&origin).expect("plain data"), text);
            assert_eq!(serde_json::from_str::<Origin>(text).expect("own text"), origin);
        }
    }

    #[test]
    fn origins_of_several_keys_keep_their_json_form() {
        let (query, key_column) = ("SELECT v, k FROM t WHERE k = ANY($1)".into(), "k".into());
        let batch = Some(SqlBatch { query, key_column });
        let sql = Origin::Sql(SqlOrigin { batch, ..SqlOrigin::new("a.url", "SELECT $1") });
        let batch = Some(HttpBatch { url: "http://o/batch".into() });
        let http = Origin::Http(HttpOrigin { batch, ..HttpOrigin::new("http://o/{key}") });
        for (origin, text) in [
            (
                sql,
                concat!(
                    r#"{"sql":{"urlFile":"a.url","query":"SELECT $1","#,
                    r#""batch":{"query":"SELECT v, k FROM t WHERE k = ANY($1)","#,
                    r#""keyColumn":"k"}}}"#
                ),
            ),
            (http, r#"{"http":{"urlTemplate":"http://o/{key}","batch":{"url":"http://o/batch"}}}"#),
        ] {
            assert_eq!(serde_json::to_string(&origin).expect("plain data"), text);
            assert_eq!(serde_json::from_str::<Origin>(text).expect("own text"), origin);
        }
        let limits = OriginLimits { max_keys: 20, ..OriginLimits::new(32, 500) };
        let text = r#"{"concurrency":32,"timeoutMs":500,"maxKeys":20}"#;
        assert_eq!(serde_json::to_string(&limits).expect("plain data"), text);
        assert_eq!(serde_json::from_str::<OriginLimits>(text).expect("own text"), limits);
    }

    #[test]
    fn limits_with_a_rate_keep_their_json_form() {
        let rate = Some(LoadRate { loads_per_second: 100, burst: 20 });
        let limits = OriginLimits { rate, ..OriginLimits::new(32, 500) };
        let text = serde_json::to_string(&limits).expect("plain data");
        assert_eq!(
            text,
            r#"{"concurrency":32,"timeoutMs":500,"rate":{"loadsPerSecond":100,"burst":20}}"#
        );
        assert_eq!(serde_json::from_str::<OriginLimits>(&text).expect("own text"), limits);
    }

    #[test]
    fn unknown_fields_are_refused() {
        let text = r#"{"concurrency":1,"timeoutMs":2,"timeoutMilliseconds":3}"#;
        let error = serde_json::from_str::<OriginLimits>(text).expect_err("an unknown field");
        assert!(error.to_string().contains("timeoutMilliseconds"), "{error}");
    }
}
