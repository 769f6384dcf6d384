//! Exit codes shared by all Larder programs.

/// Success: finished, or drained after a shutdown request.
pub const OK: u8 = 0;
/// The work failed.
pub const FAILURE: u8 = 1;
/// Bad flags, configuration or input, reported in one plain line (`EX_USAGE` of sysexits.h).
pub const BAD_CONFIGURATION: u8 = 64;
