//! A deferred free list: holds the stores of cleared groups until they are freed in bounded steps.
//! Clearing a million entries is therefore only an exchange of pointers. Nothing in here can be
//! read any more. To *bury* an entry means to free it.

use crate::entry::Entry;
use crate::listener::Ear;
use crate::shard::Cause;
use crate::store::Store;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// The deferred free list shared by a cache and its groups.
#[derive(Debug, Default)]
pub(crate) struct Graveyard {
    stores: Mutex<Vec<(Store, Ear)>>,
    /// Entries to be freed. Read without the lock, so that an empty list costs nothing.
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

    /// Frees about `max` entries and returns their number. Does nothing if another thread is
    /// freeing.
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
        buried.iter().for_each(|(entry, ear)| ear.notify(entry, Cause::Invalidated));
        buried.len()
    }

    /// Checks the counter.
    ///
    /// # Panics
    /// If it differs from the number of entries.
    pub(crate) fn validate(&self) {
        let stores = self.stores.lock();
        let waiting: usize = stores.iter().map(|(store, _)| store.len()).sum();
        assert_eq!(self.waiting(), waiting, "the counter equals the number of entries to be freed");
    }

    /// Number of entries to be freed.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}
