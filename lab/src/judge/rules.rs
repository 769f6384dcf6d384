//! The rules by name, and their tolerance.

/// Tolerance of every time limit: timers have whole milliseconds, and a hop or two lies in between.
pub(crate) const EPSILON_MS: u64 = 25;

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Check {
    /// C5, C4: after an invalidation that reached N of N, no member answers with an older value.
    Invalidation,
    /// C5: what a partial invalidation missed is dropped within a lease after the faults have
    /// ended.
    MissedInvalidation,
    /// After the cluster had its time to recover, no value of a group's earlier origin.
    Origin,
    /// C8, C9, C10: no answer past the life that its contract gives it.
    Freshness,
    /// C7: absent, empty and a value are told apart, and no key answers for another.
    Value,
    /// C2: every request ends by its own deadline.
    Hang,
    /// A read succeeds while nothing is wrong.
    Success,
    /// C1: one load per cold key in the whole cluster while nothing is wrong.
    OneLoad,
    /// Invariant 2: one load per key and member at a time, whatever is wrong.
    OneLoadPerMember,
    /// Invariant 1: a forwarded request is never forwarded again.
    Hop,
    /// R4: after the faults have ended, every ring is whole within a lease and two seconds.
    Convergence,
    /// C3: no task, flight or waiting request is left when the traffic has ended.
    Leak,
    /// Engines and queues stay within their bounds.
    Memory,
    /// Nothing panics.
    Panic,
}

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) at_ms: u64,
    pub(crate) check: Check,
    pub(crate) text: String,
}

impl Check {
    /// As in the table of promises.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Invalidation => "invalidation",
            Self::MissedInvalidation => "missed invalidation",
            Self::Origin => "origin",
            Self::Freshness => "freshness",
            Self::Value => "value",
            Self::Hang => "hang",
            Self::Success => "success",
            Self::OneLoad => "one load",
            Self::OneLoadPerMember => "one load per member",
            Self::Hop => "hop",
            Self::Convergence => "convergence",
            Self::Leak => "leak",
            Self::Memory => "memory",
            Self::Panic => "panic",
        }
    }
}
