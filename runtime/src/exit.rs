//! Exit codes that our programs share.

/// A clean end: finished, or drained after a stop was asked for.
pub const OK: u8 = 0;
/// The work failed.
pub const FAILURE: u8 = 1;
/// Bad flags, configuration or input, told in one plain line (`EX_USAGE` of sysexits.h).
pub const BAD_CONFIGURATION: u8 = 64;
