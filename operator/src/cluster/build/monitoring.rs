//! Owns how Prometheus finds pods: the scrape annotations that the common `kubernetes-pods` job
//! reads. `manifests/examples/prometheus.yaml` is such a job.

use std::collections::BTreeMap;

/// Annotations of a pod whose metrics stand at `port` under `/metrics`.
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
    fn scrape_annotations_name_the_port() {
        assert_eq!(scrape(7690)["prometheus.io/port"], "7690");
    }
}
