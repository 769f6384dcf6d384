//! A group's contract: what the operator writes to the registry for each CacheGroup and what
//! members hold to. JSON, camel case, durations in milliseconds.
//!
//! It never carries a credential: [`SqlOrigin::url_file`] names a file in the member's
//! credentials folder.

use serde::{Deserialize, Serialize};

/// Everything a member needs to serve one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupContract {
    /// Name of the eviction policy, as in the CacheGroup: `Lru`, ...
    pub policy: String,
    /// Where values come from.
    pub origin: Origin,
    /// How long an answer may be kept and used.
    pub freshness: Freshness,
    /// How hard the origin may be used by one member.
    pub origin_limits: OriginLimits,
    /// Generation of the CacheGroup from which this was made, for status and logs.
    #[serde(default)]
    pub generation: i64,
}

/// Where values come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Origin {
    /// A row of a SQL database.
    Sql(SqlOrigin),
    /// The body of an HTTP answer.
    Http(HttpOrigin),
}

/// A SQL database: PostgreSQL, MySQL or SQLite, told apart by the URL's scheme.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqlOrigin {
    /// File in the credentials folder whose text is the connection URL.
    pub url_file: String,
    /// A query with one bound parameter, the key; its first column of its first row is the value.
    pub query: String,
}

/// An HTTP server: 200 is the value, 404 is absent, anything else is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpOrigin {
    /// URL in which `{key}` stands for the percent-encoded key.
    pub url_template: String,
}

/// How long an answer may be kept and used. All durations in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Freshness {
    /// Life of a loaded value.
    pub ttl_ms: u64,
    /// Life is shortened by a random share of up to this many percent, so that what was loaded
    /// together does not expire together.
    #[serde(default)]
    pub jitter_percent: u32,
    /// After its life an answer may still be given, marked stale, while one reload runs.
    #[serde(default)]
    pub stale_while_revalidate_ms: u64,
    /// After its life an answer may still be given, marked stale, when the origin fails.
    #[serde(default)]
    pub stale_if_error_ms: u64,
    /// Life of "absent"; 0 does not remember it.
    #[serde(default)]
    pub negative_ttl_ms: u64,
}

/// How hard the origin may be used by one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OriginLimits {
    /// Loads in flight at one time.
    pub concurrency: u32,
    /// Limit of one load, milliseconds.
    pub timeout_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The JSON is a contract between the operator and members of other versions.
    #[test]
    fn contract_keeps_its_json_form() {
        let contract = GroupContract {
            policy: "Lru".into(),
            origin: Origin::Sql(SqlOrigin {
                url_file: "students.url".into(),
                query: "SELECT score FROM students WHERE name = $1".into(),
            }),
            freshness: Freshness {
                ttl_ms: 60_000,
                jitter_percent: 10,
                stale_while_revalidate_ms: 30_000,
                stale_if_error_ms: 600_000,
                negative_ttl_ms: 5_000,
            },
            origin_limits: OriginLimits { concurrency: 32, timeout_ms: 500 },
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
    }

    #[test]
    fn unknown_fields_are_refused() {
        let text = r#"{"concurrency":1,"timeoutMs":2,"timeoutMilliseconds":3}"#;
        let error = serde_json::from_str::<OriginLimits>(text).expect_err("a stranger");
        assert!(error.to_string().contains("timeoutMilliseconds"), "{error}");
    }
}
