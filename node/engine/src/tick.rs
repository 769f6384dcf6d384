//! The engine's time: milliseconds of a monotonic clock that the caller reads. Never a time of day.

/// Milliseconds since an arbitrary start, on the caller's monotonic clock.
///
/// Ticks of two processes must not be compared. Processes exchange the remaining life instead.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Tick(u64);

impl Tick {
    /// The start of the caller's clock.
    pub const ZERO: Tick = Tick(0);
    /// Later than every other tick: an entry with this end never expires.
    pub const NEVER: Tick = Tick(u64::MAX);

    /// The tick `ms` milliseconds after the clock's start.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Tick {
        Tick(ms)
    }

    /// Milliseconds since the clock's start.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The tick `ms` milliseconds later. [`Tick::NEVER`] is unchanged.
    #[must_use]
    pub const fn after_millis(self, ms: u64) -> Tick {
        Tick(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`, 0 if `earlier` is not earlier.
    #[must_use]
    pub const fn millis_since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
