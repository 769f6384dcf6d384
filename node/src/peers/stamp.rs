//! What tells two rings apart without naming their members.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use larder_proto::registry::Registration;

/// Identifies a ring: its members and what places keys on them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct RingStamp {
    pub(super) revision: u64,
    /// Equal for rings with the same names, uids, weights and zones. Compared only between members that run the same
    /// version.
    pub(super) digest: u64,
}

impl RingStamp {
    pub(super) fn of(revision: u64, registrations: &BTreeMap<String, Registration>) -> Self {
        let mut hasher = DefaultHasher::new();
        for (name, registration) in registrations {
            let member = &registration.metadata;
            (name, &member.uid, member.weight, &member.zone).hash(&mut hasher);
        }
        Self { revision, digest: hasher.finish() }
    }
}
