//! Reads with grpcurl, a stock client that learns the API by reflection.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use larder_e2e::cluster::Cluster;
use larder_e2e::process;
use serde_json::Value;

/// Address of a CacheCluster's Service, which has the CacheCluster's name.
pub(crate) fn service_address(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
) -> Result<String, String> {
    cluster.field(&["service", name, "--namespace", namespace], "/spec/clusterIP")
}

/// Reads one key through a CacheCluster's Service, with its explanation.
pub(crate) fn get(
    cluster: &Cluster,
    (namespace, name): (&str, &str),
    group: &str,
    key: &str,
) -> Result<String, String> {
    get_from(cluster, &service_address(cluster, namespace, name)?, group, key)
}

/// Reads one key from an address, with its explanation.
pub(crate) fn get_from(
    cluster: &Cluster,
    address: &str,
    group: &str,
    key: &str,
) -> Result<String, String> {
    let request = serde_json::json!({"group": group, "key": base64(key), "explain": true});
    let mut grpcurl = cluster.program("grpcurl");
    grpcurl.args(["-plaintext", "-max-time", "5", "-d", &request.to_string()]);
    let answer =
        process::output(grpcurl.args([format!("{address}:7600").as_str(), "larder.v1.Cache/Get"]))?;
    serde_json::from_str::<Value>(&answer).map_err(|e| e.to_string())?;
    Ok(answer)
}

/// Bytes as protobuf's JSON form writes them.
pub(crate) fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// The value of an answer, in base64.
pub(crate) fn value_of(answer: &str) -> Value {
    serde_json::from_str::<Value>(answer).expect("JSON")["value"].clone()
}

/// The source that an answer's explanation names.
pub(crate) fn source_of(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).expect("JSON");
    answer.pointer("/explanation/source").and_then(Value::as_str).unwrap_or_default().to_owned()
}
