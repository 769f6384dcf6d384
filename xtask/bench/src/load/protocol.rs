//! What the load generator needs of a protocol.

use std::time::Instant;

use anyhow::Result;

/// One connection's side of a protocol.
pub(crate) trait Protocol {
    /// Appends the connection preface.
    fn begin(&mut self, out: &mut Vec<u8>);
    /// Appends one request for a key; `sent` is returned with its reply.
    fn request(&mut self, key: u32, sent: Instant, out: &mut Vec<u8>);
    /// Consumes the complete replies at the beginning of `input` and returns how many bytes they
    /// had. Appends the time at which each was requested to `replied`, and the protocol's own
    /// messages to `out`.
    ///
    /// # Errors
    /// A reply without the expected value.
    fn consume(
        &mut self,
        input: &[u8],
        replied: &mut Vec<Instant>,
        out: &mut Vec<u8>,
    ) -> Result<usize>;
}

/// The key with this number. All keys have the same length.
pub(crate) fn key(number: u32) -> String {
    format!("key-{number:08}")
}
