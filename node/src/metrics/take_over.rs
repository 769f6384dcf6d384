//! Entries that this member took over from others.

use prometheus::{Gauge, IntCounter, Registry};

use super::register::{counter, opts, register};

/// The area's metrics. Clones share them.
#[derive(Clone)]
pub struct TakeOverMetrics {
    /// Stored as the owner of their keys.
    pub taken_over: StoredEntries,
    /// Stored as replicas of other members' entries.
    pub replicated: StoredEntries,
    /// Entries that were offered and not stored.
    pub refused: IntCounter,
    /// Duration of the last take-over after a change of the ring.
    pub seconds: Gauge,
}

/// Entries and their bytes.
#[derive(Clone)]
#[expect(missing_docs, reason = "explained above")]
pub struct StoredEntries {
    pub entries: IntCounter,
    pub bytes: IntCounter,
}

impl TakeOverMetrics {
    /// Registers the area.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let counter = |name, help| counter(registry, name, help);
        let seconds = opts(
            "take_over_duration_seconds",
            "Duration of the last take-over of entries after a change of the ring.",
        );
        Self {
            taken_over: StoredEntries {
                entries: counter(
                    "taken_over_entries_total",
                    "Entries taken over from the members that held them before.",
                ),
                bytes: counter("taken_over_bytes_total", "Bytes of the entries taken over."),
            },
            replicated: StoredEntries {
                entries: counter(
                    "replicated_entries_total",
                    "Entries of other members that were stored as replicas.",
                ),
                bytes: counter("replicated_bytes_total", "Bytes of the replicas that were stored."),
            },
            refused: counter(
                "take_over_refused_total",
                "Entries that another member offered and that were not stored: invalidated, \
                 expired, outdated, or not of this member.",
            ),
            seconds: register(registry, Gauge::with_opts(seconds).expect("valid names")),
        }
    }
}
