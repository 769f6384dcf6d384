//! Owns the operator's metrics. They are only written; no decision reads a metric.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::process_collector::ProcessCollector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry};

use crate::api::CacheClusterStatus;
use crate::api::status::{ETCD_READY, MEMBERS_READY, READY};

/// The kind of a reconciled resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kinds of the two resources")]
pub enum Kind {
    CacheCluster,
    CacheGroup,
}

impl Kind {
    /// The value of the label `kind`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CacheCluster => "CacheCluster",
            Self::CacheGroup => "CacheGroup",
        }
    }
}

/// The operator's metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    reconciles: IntCounterVec,
    seconds: HistogramVec,
    conditions: GaugeVec,
    /// Namespace and name of each CacheCluster that has series.
    known: Arc<Mutex<BTreeSet<(String, String)>>>,
    writes: IntCounterVec,
    leader: IntGauge,
}

impl Metrics {
    /// Creates and registers the metrics.
    ///
    /// # Errors
    /// When `registry` already has one of the names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let this = Self {
            reconciles: IntCounterVec::new(
                Opts::new(
                    "larder_operator_reconcile_total",
                    "Reconciles by kind and result: ok, or the step that failed.",
                ),
                &["kind", "result"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "larder_operator_reconcile_duration_seconds",
                    "Duration of one reconcile.",
                )
                .buckets(vec![0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]),
                &["kind"],
            )?,
            conditions: GaugeVec::new(
                Opts::new(
                    "larder_cluster_condition",
                    "Conditions of each CacheCluster: 1 when true, 0 when false.",
                ),
                &["namespace", "name", "type"],
            )?,
            known: Arc::default(),
            writes: IntCounterVec::new(
                Opts::new(
                    "larder_operator_writes_total",
                    "Writes to the API server by kind of the reconciled object; none when settled.",
                ),
                &["kind"],
            )?,
            leader: IntGauge::new(
                "larder_operator_leader",
                "1 while this replica is the leader and reconciles, otherwise 0.",
            )?,
        };
        registry.register(Box::new(this.reconciles.clone()))?;
        registry.register(Box::new(this.seconds.clone()))?;
        registry.register(Box::new(this.conditions.clone()))?;
        registry.register(Box::new(this.writes.clone()))?;
        registry.register(Box::new(this.leader.clone()))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(this)
    }

    /// Counts a reconcile that ended.
    pub fn reconciled(&self, kind: Kind, result: &'static str, took: Duration) {
        self.reconciles.with_label_values(&[kind.name(), result]).inc();
        self.seconds.with_label_values(&[kind.name()]).observe(took.as_secs_f64());
    }

    /// Counts writes to the API server.
    pub fn wrote(&self, kind: Kind, writes: usize) {
        self.writes.with_label_values(&[kind.name()]).inc_by(writes as u64);
    }

    /// Sets the conditions of a CacheCluster.
    pub fn conditions(&self, namespace: &str, name: &str, status: &CacheClusterStatus) {
        self.known.lock().insert((namespace.into(), name.into()));
        for condition in &status.conditions {
            let value = f64::from(u8::from(condition.status == "True"));
            self.conditions.with_label_values(&[namespace, name, &condition.type_]).set(value);
        }
    }

    /// Removes the series of each CacheCluster for which `keep` is false.
    pub fn retain(&self, keep: impl Fn(&str, &str) -> bool) {
        let known = self.known.lock().clone();
        for (namespace, name) in known.iter().filter(|(namespace, name)| !keep(namespace, name)) {
            self.forget(namespace, name);
        }
    }

    /// Removes the series of a CacheCluster.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.known.lock().remove(&(namespace.to_owned(), name.to_owned()));
        for type_ in [READY, ETCD_READY, MEMBERS_READY] {
            // An error means that the series did not exist.
            let _ = self.conditions.remove_label_values(&[namespace, name, type_]);
        }
    }

    /// Sets whether this replica is the leader.
    pub fn set_leader(&self, leader: bool) {
        self.leader.set(i64::from(leader));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Finding;

    #[test]
    fn the_series_of_a_deleted_cluster_are_removed() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).expect("new names");
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
        );
        let ready = Finding::yes("Ready", "").condition("Ready", &[], Some(1), &now);
        let status =
            CacheClusterStatus { conditions: vec![ready], ..CacheClusterStatus::default() };
        metrics.conditions("prod", "shop", &status);
        let families =
            || registry.gather().iter().filter(|f| f.name() == "larder_cluster_condition").count();
        assert_eq!(families(), 1);
        metrics.retain(|namespace, name| (namespace, name) == ("prod", "shop"));
        assert_eq!(families(), 1);
        metrics.retain(|_, _| false);
        assert_eq!(families(), 0);
    }
}
