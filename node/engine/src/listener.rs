//! Listeners for removed entries. They are never called while a lock is held.

use std::fmt;
use std::sync::Arc;

use crate::entry::{Entry, Value};
use crate::shard::Cause;
use crate::sync::RwLock;

/// Called for every entry that is removed from a group, by the thread that inserts, invalidates or
/// sweeps, after it has released the lock. Two calls for one key may therefore arrive out of order.
pub trait Listener: Send + Sync {
    /// An entry was removed. For an entry of a cleared group, the call comes when its memory is
    /// freed.
    fn removed(&self, key: &[u8], value: &Value, cause: Cause);
}

impl<F: Fn(&[u8], &Value, Cause) + Send + Sync> Listener for F {
    fn removed(&self, key: &[u8], value: &Value, cause: Cause) {
        self(key, value, cause);
    }
}

/// An optional listener.
#[derive(Default, Clone)]
pub(crate) struct Ear(Option<Arc<dyn Listener>>);

impl Ear {
    pub(crate) fn notify(&self, entry: &Entry, cause: Cause) {
        if let Ear(Some(listener)) = self {
            listener.removed(entry.key(), &entry.hit().into_value(), cause);
        }
    }
}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Ear(listening)" } else { "Ear(none)" })
    }
}

/// The listener of a group. Read only when an entry is removed.
#[derive(Debug, Default)]
pub(crate) struct Ears(RwLock<Ear>);

impl Ears {
    pub(crate) fn set(&self, listener: Arc<dyn Listener>) {
        // Drop the earlier listener after the lock is released, because its destructor may do
        // anything.
        let _earlier = std::mem::replace(&mut *self.0.write(), Ear(Some(listener)));
    }

    pub(crate) fn get(&self) -> Ear {
        self.0.read().clone()
    }
}
