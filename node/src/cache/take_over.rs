//! Takes over entries that another member hands over, into the main store.
//!
//! An entry is stored only if the other member had applied every invalidation that this one has
//! ([`Applied`]), if the ring places it here, and if it comes from the group's origin. Start at
//! [`TakeOver::store`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_engine::Tick;
use larder_proto::v1::{HandedOver, Source, TakeOverCursor, TakeOverRequest, TakeOverResponse};
use tokio::time::{sleep, timeout};

use super::answer::Answer;
use super::group::Group;
use super::hand_over::size;
use super::offers::Role;
use super::portable::{Import, signed};
use super::shared::Cache;
use crate::freshness::Verdict;
use crate::peers::{Applied, Peer, RingView};

/// Time that a read waits for the previous owner of its key before it loads the key.
const ASK_TIME: Duration = Duration::from_millis(50);
/// Wait before a member that lags behind is asked again.
pub(crate) const BEHIND_PAUSE: Duration = Duration::from_millis(5);
/// A response with more entries or bytes is dropped. Above what a member hands over at once, a
/// value of the largest size included.
const MAX_ENTRIES: usize = 4_096;
const MAX_BYTES: usize = 8 << 20;

/// One call to another member, from before it is asked until its entries are stored.
pub(crate) struct TakeOver {
    cache: Cache,
    began_ms: i64,
    view: Arc<RingView>,
    role: Role,
    imports: HashMap<Arc<str>, Import>,
    applied: Applied,
}

/// What one call brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Entries that were not stored: not this member's, of another origin, invalidated in the
    /// meantime, at their end, or older than what is here.
    pub(crate) refused: u64,
}

/// Why a response is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    /// Ask again a little later.
    #[error("the member has not applied an invalidation that was applied here")]
    Behind,
    #[error("the response is too large")]
    TooLarge,
}

impl Cache {
    /// Begins to take over entries of all groups.
    pub(crate) fn begin_take_over(&self, role: Role) -> TakeOver {
        let groups = self.0.groups.load();
        self.begin_take_over_of(groups.values(), role)
    }

    fn begin_take_over_of<'g>(
        &self,
        groups: impl Iterator<Item = &'g Arc<Group>>,
        role: Role,
    ) -> TakeOver {
        let import = |group: &Arc<Group>| {
            Some((group.name.clone(), self.begin_import(&group.name, group.origin_id)?))
        };
        let imports = groups.filter_map(import).collect();
        // After the fences: what is applied in between is covered twice, and nothing is missed.
        let applied = self.0.peers.applied();
        let (began_ms, view) = (signed(self.0.clock.now_ms()), self.0.peers.view().clone());
        TakeOver { cache: self.clone(), began_ms, view, role, imports, applied }
    }

    /// Memory for entries of the keys that this member owns.
    pub(crate) fn main_capacity_bytes(&self) -> u64 {
        self.0.main.capacity_bytes()
    }

    /// Of these, the bytes without an entry.
    pub(crate) fn main_free_bytes(&self) -> u64 {
        self.main_capacity_bytes().saturating_sub(self.0.main.bytes())
    }

    /// Reports how long the take-over after a change of the ring took.
    pub(crate) fn record_take_over(&self, took: Duration) {
        self.0.metrics.take_over.seconds.set(took.as_secs_f64());
    }

    /// The entry of a key from the member that owned it before the latest change of the ring.
    pub(super) async fn take_over_key(&self, group: &Arc<Group>, key: &Bytes) -> Option<Answer> {
        let owner = self.0.peers.previous_owner(&group.name, key)?;
        let _place = self.0.asking_previous.try_acquire().ok()?;
        timeout(ASK_TIME, self.ask_previous(group, key, &owner)).await.ok()?
    }

    async fn ask_previous(&self, group: &Arc<Group>, key: &Bytes, owner: &Peer) -> Option<Answer> {
        self.0.peers.wait_until_synced().await;
        loop {
            let take_over = self.begin_take_over_of(std::iter::once(group), Role::Owner);
            let request = TakeOverRequest {
                group: group.name.to_string(),
                keys: vec![key.clone()],
                ..take_over.request(None)
            };
            let response = owner.take_over(request, ASK_TIME).await?;
            match take_over.store(&response) {
                Ok(_) => break,
                Err(NotTaken::Behind) => sleep(BEHIND_PAUSE).await,
                Err(NotTaken::TooLarge) => return None,
            }
        }
        let now_ms = self.0.clock.now_ms();
        let hit = group.main.peek(key, Tick::from_millis(now_ms))?;
        match group.judge(&hit, now_ms) {
            Verdict::Fresh { remaining_ms } => {
                Some(group.fresh(hit, Source::Owner, remaining_ms, now_ms))
            }
            Verdict::StaleAndReload | Verdict::StaleIfError | Verdict::Expired => None,
        }
    }
}

impl TakeOver {
    /// The request for what this member owns, from `cursor` on.
    pub(crate) fn request(&self, cursor: Option<TakeOverCursor>) -> TakeOverRequest {
        TakeOverRequest {
            from: self.cache.0.member.to_string(),
            log_end: Some(self.cache.0.peers.log_end()),
            ring_digest: self.view.digest(),
            cursor,
            as_stand_in: self.role == Role::StandIn,
            ..TakeOverRequest::default()
        }
    }

    /// Stores the entries of the response.
    pub(crate) fn store(self, response: &TakeOverResponse) -> Result<Taken, NotTaken> {
        let entries = || response.groups.iter().flat_map(|group| &group.entries);
        let bytes: usize = entries().map(size).sum();
        if entries().count() > MAX_ENTRIES || bytes > MAX_BYTES {
            return Err(NotTaken::TooLarge);
        }
        if entries().next().is_some() && !self.applied.is_covered_by(&response.positions) {
            return Err(NotTaken::Behind);
        }
        let mut taken = Taken::default();
        response.groups.iter().for_each(|group| self.store_group(group, &mut taken));
        let metrics = &self.cache.0.metrics.take_over;
        let stored = match self.role {
            Role::Owner => &metrics.taken_over,
            Role::StandIn => &metrics.replicated,
        };
        stored.entries.inc_by(taken.entries);
        stored.bytes.inc_by(taken.bytes);
        metrics.refused.inc_by(taken.refused);
        Ok(taken)
    }

    /// True if the other member has the ring of this one.
    pub(crate) fn has_ring_of(&self, response: &TakeOverResponse) -> bool {
        response.ring_digest == self.view.digest()
    }

    fn store_group(&self, group: &HandedOver, taken: &mut Taken) {
        let import = self.imports.get(&*group.group);
        let import = import.filter(|import| import.origin_id() == group.origin_id);
        for entry in &group.entries {
            if self.is_placed_here(&group.group, &entry.key)
                && import.is_some_and(|import| import.store(entry, self.began_ms))
            {
                taken.entries += 1;
                taken.bytes += size(entry) as u64;
            } else {
                taken.refused += 1;
            }
        }
    }

    fn is_placed_here(&self, group: &str, key: &[u8]) -> bool {
        let index = match self.role {
            Role::Owner => self.view.placed_index(group, key),
            Role::StandIn => self.view.stand_in_index(group, key),
        };
        index.is_some_and(|index| self.view.members()[index].name == *self.cache.0.member)
    }
}
