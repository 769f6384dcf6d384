//! Owns the stores of cleared groups until they are taken apart, so that clearing a million
//! entries is an exchange of pointers and their memory comes back in bounded steps. Nothing in
//! here can be read any more.

use crate::entry::Entry;
use crate::listener::Ear;
use crate::shard::Cause;
use crate::store::Store;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Shared by a cache and its groups.
#[derive(Debug, Default)]
pub(crate) struct Graveyard {
    stores: Mutex<Vec<(Store, Ear)>>,
    /// Entries that wait; read without the lock, so that an empty graveyard costs nothing.
    waiting: AtomicUsize,
}

impl Graveyard {
    pub(crate) fn add(&self, store: Store, ear: Ear) {
        if store.len() > 0 {
            let mut stores = self.stores.lock();
            self.waiting.fetch_add(store.len(), Ordering::Relaxed);
            stores.push((store, ear));
        }
    }

    /// Frees about `max` entries; returns how many. Skips its turn if another thread is at it.
    pub(crate) fn bury(&self, max: usize) -> usize {
        if self.waiting.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let mut buried: Vec<(Entry, Ear)> = Vec::new();
        let Some(mut stores) = self.stores.try_lock() else { return 0 };
        while buried.len() < max {
            let Some((store, ear)) = stores.last_mut() else { break };
            let taken = store.dismantle(max - buried.len());
            buried.extend(taken.map(|entry| (entry, ear.clone())));
            if store.len() == 0 {
                stores.pop();
            }
        }
        self.waiting.fetch_sub(buried.len(), Ordering::Relaxed);
        drop(stores);
        buried.iter().for_each(|(entry, ear)| ear.tell(entry, Cause::Invalidated));
        buried.len()
    }

    /// Recounts what waits.
    ///
    /// # Panics
    /// If it is not what the counter says.
    pub(crate) fn validate(&self) {
        let stores = self.stores.lock();
        let waiting: usize = stores.iter().map(|(store, _)| store.len()).sum();
        assert_eq!(self.waiting(), waiting, "what waits to be freed is counted");
    }

    /// Entries that wait to be freed.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}
