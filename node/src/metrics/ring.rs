//! Metrics of the ring, the registry and the peers.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry,
};

use super::register::{counter, gauge, opts, register};

/// Upper bounds of a peer's response times, seconds.
const PEER_BUCKETS: &[f64] = &[0.0005, 0.002, 0.01, 0.05, 0.2, 0.5];

/// The area's metrics. Clones share them.
#[derive(Clone)]
pub struct RingMetrics {
    /// Members in the ring, the departed included.
    pub members: IntGauge,
    /// Registry revision from which the ring was built.
    pub revision: IntGauge,
    /// 1 while the watch on the registry is alive.
    pub registry_connected: IntGauge,
    /// TTL of this member's lease.
    pub lease_ttl_seconds: IntGauge,
    /// Times that a peer stopped answering.
    pub peers_down: IntCounter,
    /// When the membership view last changed, as a Unix time.
    pub last_event_seconds: IntGauge,
    /// Invalidations that a peer did not confirm in time.
    pub drops_missed: IntCounter,
    /// Invalidations that this member has numbered.
    pub invalidations: IntCounter,
    held: [IntGauge; 2],
    requests: IntCounterVec,
    seconds: HistogramVec,
    applied: IntGaugeVec,
    unconfirmed: IntGaugeVec,
}

/// Metrics of one peer, with its label resolved.
#[derive(Clone)]
pub struct PeerMetrics {
    /// Batches that the peer answered.
    pub ok: IntCounter,
    /// Batches that the peer did not answer.
    pub failed: IntCounter,
    /// Response time of a batch, seconds.
    pub seconds: Histogram,
    applied: IntGauge,
    unconfirmed: IntGauge,
}

impl RingMetrics {
    /// Registers the area.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let gauge = |name, help| gauge(registry, name, help);
        let counter = |name, help| counter(registry, name, help);
        let seconds =
            HistogramOpts::from(opts("peer_duration_seconds", "Response time of a peer."))
                .buckets(PEER_BUCKETS.to_vec());
        let by_peer = |name, help| {
            let gauges = IntGaugeVec::new(opts(name, help), &["peer"]).expect("valid names");
            register(registry, gauges)
        };
        let held = IntGaugeVec::new(
            opts("ring_held_info", "1 while members without a lease are kept, by reason."),
            &["reason"],
        );
        let held = register(registry, held.expect("valid names"));
        Self {
            held: ["shrink_guard", "grace"].map(|reason| held.with_label_values(&[reason])),
            last_event_seconds: gauge(
                "registry_last_event_timestamp_seconds",
                "When the registry last changed, as a Unix time.",
            ),
            members: gauge("ring_members", "Members in the ring."),
            revision: gauge("ring_revision", "Registry revision from which the ring was built."),
            registry_connected: gauge(
                "registry_connected",
                "1 while the watch on the registry is alive.",
            ),
            lease_ttl_seconds: gauge("lease_ttl_seconds", "TTL of this member's lease."),
            peers_down: counter("peers_down_total", "Times that a peer stopped answering."),
            drops_missed: counter(
                "peer_drops_missed_total",
                "Invalidations that a peer did not confirm in time.",
            ),
            invalidations: counter(
                "invalidations_sent_total",
                "Invalidations that this member has numbered for its peers; two for each call.",
            ),
            applied: by_peer(
                "peer_invalidations_applied",
                "Number of the peer's last invalidation that has been applied here.",
            ),
            unconfirmed: by_peer(
                "peer_invalidations_unconfirmed",
                "Invalidations of this member that the peer has not confirmed.",
            ),
            requests: register(
                registry,
                IntCounterVec::new(
                    opts("peer_requests_total", "Batches sent to a peer, by result."),
                    &["peer", "code"],
                )
                .expect("valid names"),
            ),
            seconds: register(
                registry,
                HistogramVec::new(seconds, &["peer"]).expect("valid names"),
            ),
        }
    }

    /// Sets the size of the ring and the registry revision from which it was built.
    pub fn set_ring(&self, members: usize, revision: u64) {
        self.members.set(to_gauge(members as u64));
        self.revision.set(to_gauge(revision));
    }

    /// Sets the reasons for which members without a lease are kept: the shrink guard distrusts the
    /// registry, and some members are in their grace time.
    pub fn set_held(&self, distrusted: bool, departed: bool) {
        self.held[0].set(distrusted.into());
        self.held[1].set(departed.into());
    }

    /// The metrics of one peer. `name` is its StatefulSet ordinal's, so the label values are few.
    #[must_use]
    pub fn peer(&self, name: &str) -> PeerMetrics {
        PeerMetrics {
            ok: self.requests.with_label_values(&[name, "ok"]),
            failed: self.requests.with_label_values(&[name, "failed"]),
            seconds: self.seconds.with_label_values(&[name]),
            applied: self.applied.with_label_values(&[name]),
            unconfirmed: self.unconfirmed.with_label_values(&[name]),
        }
    }

    /// Removes the series of a peer that left.
    pub fn forget_peer(&self, name: &str) {
        for code in ["ok", "failed"] {
            _ = self.requests.remove_label_values(&[name, code]);
        }
        _ = self.seconds.remove_label_values(&[name]);
        _ = self.applied.remove_label_values(&[name]);
        _ = self.unconfirmed.remove_label_values(&[name]);
    }
}

impl PeerMetrics {
    /// Sets the number of the peer's last invalidation that has been applied here, and how many of
    /// this member's the peer has not confirmed.
    pub fn set_invalidations(&self, applied: u64, unconfirmed: u64) {
        self.applied.set(to_gauge(applied));
        self.unconfirmed.set(to_gauge(unconfirmed));
    }
}

fn to_gauge(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
