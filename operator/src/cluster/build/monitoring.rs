//! Owns the annotations by which Prometheus finds pods, as the common `kubernetes-pods` job reads
//! them. `manifests/examples/prometheus.yaml` is such a job.

use std::collections::BTreeMap;

/// Annotations of a pod that serves metrics on `port` under `/metrics`.
#[must_use]
pub fn scrape(port: u16) -> BTreeMap<String, String> {
    BTreeMap::from([
        ("prometheus.io/scrape".into(), "true".into()),
        ("prometheus.io/port".into(), port.to_string()),
        ("prometheus.io/path".into(), "/metrics".into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_contain_the_port() {
        assert_eq!(scrape(7690)["prometheus.io/port"], "7690");
    }
}
