//! Owns the translation of a CacheGroup into the contract that members follow. Pure. It never sees
//! a credential: the contract names the file into which the operator writes it.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use larder_proto::contract::{
    Freshness, GroupContract, HttpBatch, HttpOrigin, LoadRate, MAX_KEYS, Origin, OriginLimits,
    SqlBatch, SqlOrigin,
};

use crate::api::group::{CacheGroup, CacheGroupSpec, FreshnessSpec, OriginLimitsSpec, OriginSpec};
use crate::cluster::names;
use crate::cluster::validate::parse_bytes;

/// Why a CacheGroup cannot be used. The API server refuses what its schema and rules cover, so what
/// fails here was stored before they existed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[expect(missing_docs, reason = "the messages say what each variant is")]
pub enum Error {
    #[error("the object has no name")]
    Name,
    #[error("spec.origin: exactly one of sql and http must be set")]
    Origin,
    #[error("{field}: {value} is out of range")]
    Range { field: &'static str, value: i64 },
    #[error("{field}: {text:?} is not a quantity")]
    Quantity { field: &'static str, text: String },
}

/// The contract of `group`.
///
/// # Errors
/// The first field that cannot be used, by its path.
pub fn contract(group: &CacheGroup) -> Result<GroupContract, Error> {
    let name = group.metadata.name.as_deref().ok_or(Error::Name)?;
    let spec = &group.spec;
    Ok(GroupContract {
        policy: spec.policy.name().into(),
        origin: origin(name, &spec.origin)?,
        freshness: freshness(&spec.freshness)?,
        origin_limits: limits(spec)?,
        guaranteed_bytes: spec.guaranteed_memory.as_ref().map_or(Ok(0), guaranteed_bytes)?,
        generation: group.metadata.generation.unwrap_or_default(),
    })
}

fn origin(group: &str, spec: &OriginSpec) -> Result<Origin, Error> {
    match (&spec.sql, &spec.http) {
        (Some(sql), None) => Ok(Origin::Sql(SqlOrigin {
            url_file: names::credential_file(group),
            query: sql.query.clone(),
            tags_column: sql.tags_column.clone(),
            batch: sql.batch.as_ref().map(|batch| SqlBatch {
                query: batch.query.clone(),
                key_column: batch.key_column.clone(),
            }),
        })),
        (None, Some(http)) => Ok(Origin::Http(HttpOrigin {
            url_template: http.url_template.clone(),
            tags_header: http.tags_header.clone(),
            batch: http.batch.as_ref().map(|batch| HttpBatch { url: batch.url.clone() }),
        })),
        (Some(_), Some(_)) | (None, None) => Err(Error::Origin),
    }
}

fn freshness(spec: &FreshnessSpec) -> Result<Freshness, Error> {
    let at = |field, seconds| milliseconds(field, seconds, 1_000);
    Ok(Freshness {
        ttl_ms: at("spec.freshness.ttlSeconds", spec.ttl_seconds)?,
        jitter_percent: count("spec.freshness.jitterPercent", spec.jitter_percent)?,
        stale_while_revalidate_ms: at(
            "spec.freshness.staleWhileRevalidateSeconds",
            spec.stale_while_revalidate_seconds,
        )?,
        stale_if_error_ms: at("spec.freshness.staleIfErrorSeconds", spec.stale_if_error_seconds)?,
        negative_ttl_ms: at("spec.freshness.negativeTtlSeconds", spec.negative_ttl_seconds)?,
        early_refresh_percent: count(
            "spec.freshness.earlyRefreshPercent",
            spec.early_refresh_percent,
        )?,
    })
}

fn limits(group: &CacheGroupSpec) -> Result<OriginLimits, Error> {
    let spec = &group.origin_limits;
    Ok(OriginLimits {
        concurrency: count("spec.originLimits.concurrency", spec.concurrency)?,
        timeout_ms: milliseconds(
            "spec.originLimits.timeoutMilliseconds",
            spec.timeout_milliseconds,
            1,
        )?,
        rate: rate(spec)?,
        max_keys: max_keys(&group.origin)?,
    })
}

/// A limit and not part of the origin, so that a change keeps the entries.
fn max_keys(origin: &OriginSpec) -> Result<u32, Error> {
    let sql = origin.sql.as_ref().and_then(|sql| sql.batch.as_ref());
    let http = origin.http.as_ref().and_then(|http| http.batch.as_ref());
    if let Some(batch) = sql {
        positive("spec.origin.sql.batch.maxKeys", batch.max_keys)
    } else if let Some(batch) = http {
        positive("spec.origin.http.batch.maxKeys", batch.max_keys)
    } else {
        Ok(MAX_KEYS)
    }
}

fn rate(spec: &OriginLimitsSpec) -> Result<Option<LoadRate>, Error> {
    const RATE: &str = "spec.originLimits.loadsPerSecond";
    const BURST: &str = "spec.originLimits.burst";
    match (spec.loads_per_second, spec.burst) {
        (None, None) => Ok(None),
        (None, Some(burst)) => Err(Error::Range { field: BURST, value: burst.into() }),
        (Some(rate), burst) => Ok(Some(LoadRate {
            loads_per_second: positive(RATE, rate)?,
            burst: positive(BURST, burst.unwrap_or(rate))?,
        })),
    }
}

fn guaranteed_bytes(memory: &Quantity) -> Result<u64, Error> {
    let invalid = || Error::Quantity { field: "spec.guaranteedMemory", text: memory.0.clone() };
    parse_bytes(&memory.0).ok_or_else(invalid)
}

fn milliseconds(field: &'static str, value: i64, factor: u64) -> Result<u64, Error> {
    let whole = u64::try_from(value).ok().and_then(|value| value.checked_mul(factor));
    whole.ok_or(Error::Range { field, value })
}

fn positive(field: &'static str, value: i32) -> Result<u32, Error> {
    match count(field, value)? {
        0 => Err(Error::Range { field, value: 0 }),
        value => Ok(value),
    }
}

fn count(field: &'static str, value: i32) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| Error::Range { field, value: value.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(spec: &str) -> CacheGroup {
        let text = format!(
            "apiVersion: larder.dev/v1alpha1\nkind: CacheGroup\n\
             metadata: {{name: students, generation: 7}}\nspec: {spec}\n"
        );
        serde_saphyr::from_str(&text).expect("valid YAML")
    }

    const SQL: &str = "{clusterRef: {name: shop}, origin: {sql: {urlSecretRef: {name: db}, \
                       query: 'SELECT 1 WHERE $1'}}}";

    #[test]
    fn durations_are_in_milliseconds_and_defaults_are_filled_in() {
        let contract = contract(&group(SQL)).expect("valid");
        assert_eq!(contract.policy, "TinyLfu");
        assert_eq!(contract.generation, 7);
        assert_eq!(
            (contract.freshness.ttl_ms, contract.freshness.negative_ttl_ms),
            (60_000, 5_000)
        );
        assert_eq!(contract.origin_limits, OriginLimits::new(32, 1_000));
    }

    #[test]
    fn a_rate_has_the_loads_of_one_second_as_its_burst() {
        let limited = |limits: &str| {
            let spec = SQL.replace("}}}", &format!("}}}}, originLimits: {{{limits}}}}}"));
            contract(&group(&spec)).map(|contract| contract.origin_limits.rate)
        };
        let rate = |loads_per_second, burst| Ok(Some(LoadRate { loads_per_second, burst }));
        assert_eq!(limited("concurrency: 8"), Ok(None));
        assert_eq!(limited("loadsPerSecond: 50"), rate(50, 50));
        assert_eq!(limited("loadsPerSecond: 50, burst: 5"), rate(50, 5));
        let refused = |limits: &str| limited(limits).expect_err("out of range").to_string();
        assert_eq!(
            refused("loadsPerSecond: 0"),
            "spec.originLimits.loadsPerSecond: 0 is out of range"
        );
        assert_eq!(refused("burst: 5"), "spec.originLimits.burst: 5 is out of range");
    }

    #[test]
    fn a_guarantee_is_in_bytes() {
        let guaranteed = |memory: &str| {
            let spec = SQL.replace("}}}", &format!("}}}}, guaranteedMemory: {memory}}}"));
            contract(&group(&spec)).map(|contract| contract.guaranteed_bytes)
        };
        assert_eq!(contract(&group(SQL)).expect("valid").guaranteed_bytes, 0);
        assert_eq!(guaranteed("64Mi"), Ok(64 << 20));
        let error = guaranteed("much").expect_err("not a quantity");
        assert_eq!(error.to_string(), "spec.guaranteedMemory: \"much\" is not a quantity");
    }

    #[test]
    fn a_sql_contract_names_the_credential_file_and_contains_no_credential() {
        let Origin::Sql(sql) = contract(&group(SQL)).expect("valid").origin else { panic!("sql") };
        assert_eq!(sql.url_file, "students.url");
    }

    #[test]
    fn an_http_contract_has_the_url_template() {
        let spec = "{clusterRef: {name: shop}, origin: {http: {urlTemplate: 'http://a/{key}'}}}";
        let Origin::Http(http) = contract(&group(spec)).expect("valid").origin else {
            panic!("http")
        };
        assert_eq!(http.url_template, "http://a/{key}");
    }

    #[test]
    fn a_contract_names_where_the_tags_are() {
        let sql = SQL.replace("$1'", "$1', tagsColumn: tags");
        let Origin::Sql(sql) = contract(&group(&sql)).expect("valid").origin else { panic!("sql") };
        assert_eq!(sql.tags_column.as_deref(), Some("tags"));
        let http = "{clusterRef: {name: shop}, origin: {http: {urlTemplate: 'http://a/{key}', \
                    tagsHeader: Cache-Tag}}}";
        let Origin::Http(http) = contract(&group(http)).expect("valid").origin else {
            panic!("http")
        };
        assert_eq!(http.tags_header.as_deref(), Some("Cache-Tag"));
    }

    #[test]
    fn a_batch_is_part_of_the_origin_and_its_number_of_keys_a_limit() {
        let spec = |batch: &str| SQL.replace("$1'", &format!("$1', batch: {{{batch}}}"));
        let query = "query: 'SELECT v, k FROM t WHERE k = ANY($1)', keyColumn: k";
        let with = contract(&group(&spec(query))).expect("valid");
        let Origin::Sql(sql) = with.origin else { panic!("sql") };
        assert_eq!(sql.batch.expect("a batch").key_column, "k");
        assert_eq!(with.origin_limits.max_keys, MAX_KEYS);
        let other = contract(&group(&spec(&format!("{query}, maxKeys: 20")))).expect("valid");
        assert_eq!(other.origin_limits.max_keys, 20);
        let none = contract(&group(&spec(&format!("{query}, maxKeys: 0"))));
        let text = none.expect_err("no keys").to_string();
        assert_eq!(text, "spec.origin.sql.batch.maxKeys: 0 is out of range");

        let http = "{clusterRef: {name: shop}, origin: {http: {urlTemplate: 'http://a/{key}', \
                    batch: {url: 'http://a/many', maxKeys: 50}}}}";
        let http = contract(&group(http)).expect("valid");
        assert_eq!(http.origin_limits.max_keys, 50);
        let Origin::Http(http) = http.origin else { panic!("http") };
        assert_eq!(http.batch, Some(HttpBatch { url: "http://a/many".into() }));
    }

    #[test]
    fn fields_that_an_older_schema_allowed_are_refused_by_their_path() {
        let mut broken = group(SQL);
        broken.spec.freshness.ttl_seconds = -1;
        let error = contract(&broken).expect_err("negative");
        assert_eq!(error.to_string(), "spec.freshness.ttlSeconds: -1 is out of range");
        broken.spec.origin.sql = None;
        assert_eq!(contract(&broken), Err(Error::Origin));
    }
}
