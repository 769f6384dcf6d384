//! The types that a call accepts as a key.

use bytes::Bytes;

/// Bytes that identify a value in a group. Borrowed bytes are copied once, and only when the call
/// leaves the process; [`Bytes`] and owned buffers are not copied.
pub trait Key: Send {
    /// The key's bytes.
    fn bytes(&self) -> &[u8];

    /// The key as a shared view.
    fn into_bytes(self) -> Bytes;
}

impl Key for Bytes {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn into_bytes(self) -> Bytes {
        self
    }
}

impl Key for &Bytes {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn into_bytes(self) -> Bytes {
        self.clone()
    }
}

impl Key for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn into_bytes(self) -> Bytes {
        self.into()
    }
}

impl Key for String {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn into_bytes(self) -> Bytes {
        self.into()
    }
}

impl Key for &str {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl Key for &String {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }

    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl Key for &[u8] {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> Key for &[u8; N] {
    fn bytes(&self) -> &[u8] {
        self.as_slice()
    }

    fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}
