//! Snapshots of a member's hottest entries.

use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, Registry};

use super::register::{counter, gauge, opts, register};

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotOperation {
    /// Reading what the previous process left.
    Open,
    /// Bringing its entries back.
    Restore,
    /// Writing a snapshot.
    Write,
    /// Recording an invalidation. The snapshot is then deleted.
    Journal,
}

impl SnapshotOperation {
    const ALL: [Self; 4] = [Self::Open, Self::Restore, Self::Write, Self::Journal];

    fn label(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Restore => "restore",
            Self::Write => "write",
            Self::Journal => "journal",
        }
    }
}

/// The area's metrics. Clones share them.
#[derive(Clone)]
pub struct SnapshotMetrics {
    /// When the last snapshot was written, as a Unix time.
    pub written_seconds: Gauge,
    /// Size of the last snapshot.
    pub bytes: IntGauge,
    /// Entries that were restored after a restart.
    pub restored: IntCounter,
    /// Entries of a snapshot that were not restored.
    pub dropped: IntCounter,
    errors: [IntCounter; SnapshotOperation::ALL.len()],
}

impl SnapshotMetrics {
    /// Registers the area.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let counter = |name, help| counter(registry, name, help);
        let written = opts(
            "snapshot_written_timestamp_seconds",
            "When this process last wrote a snapshot, as a Unix time; 0 before the first.",
        );
        let errors = opts("snapshot_errors_total", "Failures of snapshots, by operation.");
        let errors = IntCounterVec::new(errors, &["operation"]).expect("valid names");
        let errors = register(registry, errors);
        Self {
            written_seconds: register(registry, Gauge::with_opts(written).expect("valid names")),
            bytes: gauge(
                registry,
                "snapshot_bytes",
                "Size of the last snapshot that this process wrote.",
            ),
            restored: counter(
                "snapshot_restored_entries_total",
                "Entries of the previous process that were restored from its snapshot.",
            ),
            dropped: counter(
                "snapshot_dropped_entries_total",
                "Entries in a snapshot that were not restored: invalidated, expired, or of a \
                 group that is gone or has another origin.",
            ),
            errors: SnapshotOperation::ALL
                .map(|operation| errors.with_label_values(&[operation.label()])),
        }
    }

    /// Counts a failure.
    pub fn failed(&self, operation: SnapshotOperation) {
        self.errors[operation as usize].inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_numbered_as_listed() {
        for (index, operation) in SnapshotOperation::ALL.into_iter().enumerate() {
            assert_eq!(operation as usize, index);
        }
    }
}
