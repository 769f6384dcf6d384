//! Owns the call to whoever wants to know what leaves a group. It is never made under a lock.

use std::fmt;
use std::sync::Arc;

use crate::entry::{Entry, Value};
use crate::shard::Cause;
use crate::sync::RwLock;

/// Hears of every entry that leaves a group. Calls come from whatever thread inserted, invalidated
/// or swept, after the lock was released, so two about one key may arrive out of order.
pub trait Listener: Send + Sync {
    /// An entry left. Entries of a cleared group are told when their memory is given back.
    fn removed(&self, key: &[u8], value: &Value, cause: Cause);
}

impl<F: Fn(&[u8], &Value, Cause) + Send + Sync> Listener for F {
    fn removed(&self, key: &[u8], value: &Value, cause: Cause) {
        self(key, value, cause);
    }
}

/// A place for one listener.
#[derive(Default, Clone)]
pub(crate) struct Ear(Option<Arc<dyn Listener>>);

impl Ear {
    pub(crate) fn tell(&self, entry: &Entry, cause: Cause) {
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

/// The listener of a group; read only when something leaves.
#[derive(Debug, Default)]
pub(crate) struct Ears(RwLock<Ear>);

impl Ears {
    pub(crate) fn set(&self, listener: Arc<dyn Listener>) {
        // Dropped after the lock: what an earlier listener does at its end is its own affair.
        let _earlier = std::mem::replace(&mut *self.0.write(), Ear(Some(listener)));
    }

    pub(crate) fn get(&self) -> Ear {
        self.0.read().clone()
    }
}
