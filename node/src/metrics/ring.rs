//! The ring, the registry and the peers.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Registry,
};

use super::{opts, register};

/// Upper bounds of a peer's answer times, seconds.
const PEER_BUCKETS: &[f64] = &[0.0005, 0.002, 0.01, 0.05, 0.2, 0.5];

/// The area's metrics.
#[derive(Clone)]
pub struct RingMetrics {
    /// Members in the ring.
    pub members: IntGauge,
    /// Revision of the registry from which the ring was made.
    pub revision: IntGauge,
    /// 1 while the registry answers.
    pub registry_connected: IntGauge,
    /// Life of our lease, seconds.
    pub lease_ttl_seconds: IntGauge,
    /// Times that a peer was found not to answer.
    pub peers_down: IntCounter,
    /// When the View changed last, seconds since 1970.
    pub last_event_seconds: IntGauge,
    /// Invalidations that a peer did not confirm.
    pub drops_missed: IntCounter,
    held: [IntGauge; 2],
    requests: IntCounterVec,
    seconds: HistogramVec,
}

/// One peer's children.
#[derive(Clone)]
pub struct PeerMetrics {
    /// Batches answered.
    pub ok: IntCounter,
    /// Batches not answered.
    pub failed: IntCounter,
    /// Time of a batch, seconds.
    pub seconds: Histogram,
}

impl RingMetrics {
    /// Registers the area.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let gauge = |name, help| {
            register(registry, IntGauge::with_opts(opts(name, help)).expect("valid names"))
        };
        let counter = |name, help| {
            register(registry, IntCounter::with_opts(opts(name, help)).expect("valid names"))
        };
        let seconds =
            HistogramOpts::from(opts("peer_duration_seconds", "Time of a peer's answer."))
                .buckets(PEER_BUCKETS.to_vec());
        let held = IntGaugeVec::new(
            opts("ring_held_info", "1 while members without a lease are kept, by reason."),
            &["reason"],
        );
        let held = register(registry, held.expect("valid names"));
        Self {
            held: ["shrink_guard", "grace"].map(|reason| held.with_label_values(&[reason])),
            last_event_seconds: gauge(
                "registry_last_event_timestamp_seconds",
                "When something changed in the registry last.",
            ),
            members: gauge("ring_members", "Members in the ring."),
            revision: gauge("ring_revision", "Registry revision from which the ring was made."),
            registry_connected: gauge("registry_connected", "1 while the registry answers."),
            lease_ttl_seconds: gauge("lease_ttl_seconds", "Life of this member's lease."),
            peers_down: counter("peers_down_total", "Times that a peer was found silent."),
            drops_missed: counter(
                "peer_drops_missed_total",
                "Invalidations that a peer did not confirm in time.",
            ),
            requests: register(
                registry,
                IntCounterVec::new(
                    opts("peer_requests_total", "Batches sent to a peer, by outcome."),
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

    /// Tells why members without a lease are kept: because too many vanished at once for the
    /// registry to be believed, and because some still answer.
    pub fn hold(&self, distrusted: bool, departed: bool) {
        self.held[0].set(distrusted.into());
        self.held[1].set(departed.into());
    }

    /// The children of one peer, known by its ordinal's name.
    #[must_use]
    pub fn peer(&self, name: &str) -> PeerMetrics {
        PeerMetrics {
            ok: self.requests.with_label_values(&[name, "ok"]),
            failed: self.requests.with_label_values(&[name, "failed"]),
            seconds: self.seconds.with_label_values(&[name]),
        }
    }

    /// Ends the series of a peer that left.
    pub fn forget_peer(&self, name: &str) {
        for code in ["ok", "failed"] {
            _ = self.requests.remove_label_values(&[name, code]);
        }
        _ = self.seconds.remove_label_values(&[name]);
    }
}
