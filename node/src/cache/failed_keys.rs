//! Keys whose last load failed, each with its error: reads get the error without another load for
//! a short time. Pure: the caller passes the time. It never extends the life of an error.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::error::Error;

/// How long an error is the answer of its key, ms.
const KEPT_MS: u64 = 1_000;
/// Keys remembered per group. Beyond the limit further keys are loaded at every read.
const MAX_KEYS: usize = 1_024;

#[derive(Default)]
pub(super) struct FailedKeys(Mutex<HashMap<Vec<u8>, FailedKey>>);

struct FailedKey {
    error: Error,
    until_ms: u64,
}

impl FailedKeys {
    pub(super) fn record(&self, key: &[u8], error: &Error, now_ms: u64) {
        let mut keys = self.0.lock();
        if keys.len() >= MAX_KEYS {
            keys.retain(|_, failed| now_ms < failed.until_ms);
        }
        if keys.len() < MAX_KEYS {
            let failed = FailedKey { error: error.clone(), until_ms: now_ms + KEPT_MS };
            keys.insert(key.to_vec(), failed);
        }
    }

    /// The error of a key whose load failed lately.
    pub(super) fn error(&self, key: &[u8], now_ms: u64) -> Option<Error> {
        let keys = self.0.lock();
        let failed = keys.get(key)?;
        (now_ms < failed.until_ms).then(|| failed.error.clone())
    }

    pub(super) fn forget(&self, key: &[u8]) {
        self.0.lock().remove(key);
    }

    pub(super) fn forget_all(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: Error = Error::ValueTooLarge { bytes: 2, max: 1 };

    #[test]
    fn an_error_is_remembered_for_its_time_only() {
        let keys = FailedKeys::default();
        keys.record(b"k", &ERROR, 500);
        assert!(keys.error(b"k", 1_499).is_some() && keys.error(b"other", 500).is_none());
        assert!(keys.error(b"k", 1_500).is_none());
    }

    #[test]
    fn a_forgotten_key_has_no_error() {
        let keys = FailedKeys::default();
        keys.record(b"a", &ERROR, 0);
        keys.record(b"b", &ERROR, 0);
        keys.forget(b"a");
        assert!(keys.error(b"a", 1).is_none() && keys.error(b"b", 1).is_some());
        keys.forget_all();
        assert!(keys.error(b"b", 1).is_none());
    }

    #[test]
    fn the_number_of_keys_is_bounded_and_expired_ones_make_room() {
        let keys = FailedKeys::default();
        for key in 0..2 * MAX_KEYS {
            keys.record(&key.to_le_bytes(), &ERROR, 0);
        }
        assert_eq!(keys.0.lock().len(), MAX_KEYS);
        keys.record(b"late", &ERROR, KEPT_MS);
        assert!(keys.error(b"late", KEPT_MS).is_some());
        assert_eq!(keys.0.lock().len(), 1);
    }
}
