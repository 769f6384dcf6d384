//! Hands over entries that another member should hold: the answers of `larder.v1.Peer/TakeOver`.
//!
//! The first call after a change of the ring makes an [`Offer`]: for each other member of the ring,
//! where the entries of its keys are, the most valuable first. Each further call reads a batch of
//! them. An offer holds places and no entries, so it takes 12 bytes an entry, and an entry that
//! changes or goes in the meantime is read as it is then. New ones are not in the offer; the other
//! member asks for them by key.
//!
//! Replicas work the same way: the stand-in of a key asks its owner, every few seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use larder_engine::Tick;
use larder_proto::v1::{
    HandedOver, StoredEntry, TakeOverCursor, TakeOverRequest, TakeOverResponse,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::group::Group;
use super::offers::{Offer, OfferedPlace, Role, interleaved};
use super::portable::to_stored;
use super::shared::Cache;
use crate::peers::RingView;

/// A batch ends with the entry that passes this size.
const BATCH_BYTES: usize = 256 << 10;
/// Places read for one batch, which bounds its time.
const BATCH_PLACES: usize = 1_024;
/// Keys answered in one call.
const MAX_KEYS: usize = 256;
/// Places read between two yields.
const STEP: usize = 256;
/// Offers kept: two rings that follow each other shortly, each for owners and for stand-ins.
const MAX_OFFERS: usize = 4;
/// An older offer is made anew for a member that begins, ms.
const MAX_OFFER_AGE_MS: u64 = 4_000;
/// How often a leaving member checks whether the others have taken over.
const LEAVE_POLL: Duration = Duration::from_millis(20);
/// A leaving member that nobody has asked for this long ends.
const LEAVE_QUIET: Duration = Duration::from_secs(2);

/// Entries collected for one response.
#[derive(Default)]
struct Batch {
    groups: BTreeMap<u16, HandedOver>,
    bytes: usize,
}

impl Cache {
    /// Answers a member that takes over entries. Runs on the peers' runtime.
    pub(crate) async fn hand_over(&self, request: TakeOverRequest) -> TakeOverResponse {
        let peers = &self.0.peers;
        peers.heard(&request.from, request.log_end.as_ref());
        let view = peers.view().clone();
        let ring_digest = view.digest();
        if !request.keys.is_empty() {
            // Before the entries are read, so that these are at least as new.
            let positions = peers.positions();
            let groups = self.held(&request).into_iter().collect();
            return TakeOverResponse { positions, groups, ..TakeOverResponse::default() };
        }
        if request.ring_digest != ring_digest {
            return TakeOverResponse { ring_digest, ..TakeOverResponse::default() };
        }
        let role = Role::of(&request);
        let offer = self.offer(&view, role, request.cursor).await;
        let positions = peers.positions();
        let (groups, next) = self.batch(&offer, &view, &request);
        TakeOverResponse { ring_digest, positions, groups, next, version: offer.version }
    }

    /// Waits until the other members have taken over the entries of this one, which has left the
    /// ring, at most for `limit`.
    pub(crate) async fn handed_over(&self, limit: Duration) {
        let began = Instant::now();
        loop {
            let (finished, asked) = self.hand_over_state();
            let quiet = asked.map_or(began, |asked| asked.max(began)).elapsed() >= LEAVE_QUIET;
            if finished || quiet || began.elapsed() >= limit {
                let bytes = self.0.offers.bytes.load(Ordering::Relaxed);
                tracing::info!(finished, bytes, ms = began.elapsed().as_millis(), "handed over");
                return;
            }
            sleep(LEAVE_POLL).await;
        }
    }

    /// True if all other members have read their part, and when one asked last.
    fn hand_over_state(&self) -> (bool, Option<Instant>) {
        let view = self.0.peers.view();
        let kept = self.0.offers.kept.lock();
        let is_it =
            |offer: &&Arc<Offer>| offer.role == Role::Owner && offer.ring_digest == view.digest();
        let offer = kept.iter().find(is_it);
        let has_finished =
            |name: &str| offer.is_some_and(|offer| offer.finished.lock().contains(name));
        let finished = view.peers().iter().all(|peer| has_finished(peer.name()));
        (finished, offer.map(|offer| *offer.asked.lock()))
    }

    /// The entries of given keys.
    fn held(&self, request: &TakeOverRequest) -> Option<HandedOver> {
        let group = self.0.groups.load().get(&*request.group)?.clone();
        let now_ms = self.0.clock.now_ms();
        let mut handed_over = of_group(&group);
        let mut bytes = 0;
        for key in request.keys.iter().take(MAX_KEYS) {
            if let Some(hit) = group.main.peek(key, Tick::from_millis(now_ms)) {
                let entry = to_stored(key, hit, now_ms);
                bytes += size(&entry);
                handed_over.entries.push(entry);
            }
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        Some(handed_over)
    }

    /// The offer that the cursor names, a recent one for the ring, or a new one.
    async fn offer(
        &self,
        view: &Arc<RingView>,
        role: Role,
        cursor: Option<TakeOverCursor>,
    ) -> Arc<Offer> {
        let offers = &self.0.offers;
        let kept = || {
            let now_ms = self.0.clock.now_ms();
            let is_wanted = |offer: &&Arc<Offer>| match cursor {
                Some(cursor) if cursor.list == offer.id => true,
                _ => now_ms.saturating_sub(offer.made_ms) < MAX_OFFER_AGE_MS,
            };
            let kept = offers.kept.lock();
            let mut same = kept.iter().filter(|o| o.role == role && o.ring_digest == view.digest());
            same.find(is_wanted).cloned()
        };
        if let Some(offer) = kept() {
            return offer;
        }
        let _making = offers.making.lock().await;
        if let Some(offer) = kept() {
            return offer;
        }
        let offer = Arc::new(self.make_offer(view, role).await);
        let mut kept = offers.kept.lock();
        kept.push_front(offer.clone());
        kept.truncate(MAX_OFFERS);
        offer
    }

    async fn make_offer(&self, view: &RingView, role: Role) -> Offer {
        let made_ms = self.0.clock.now_ms();
        let version = self.0.versions.next(made_ms);
        let mut groups: Vec<_> = self.0.groups.load().values().cloned().collect();
        groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        groups.truncate(usize::from(u16::MAX));
        let mut by_member: Vec<Vec<Vec<OfferedPlace>>> = vec![Vec::new(); view.members().len()];
        let mut left = role.max_places();
        for (index, group) in (0..).zip(&groups) {
            by_member.iter_mut().for_each(|lists| lists.push(Vec::new()));
            for places in group.main.places().chunks(STEP) {
                for place in places.iter().take(left) {
                    let member = |key: &[u8]| self.offered_to(view, role, &group.name, key);
                    let Some(member) = group.main.key_at(*place, member).flatten() else {
                        continue;
                    };
                    let list = by_member[member].last_mut().expect("one for each group");
                    list.push(OfferedPlace { group: index, place: *place });
                    left -= 1;
                }
                tokio::task::yield_now().await;
            }
        }
        let names = view.members().iter().map(|member| member.name.clone());
        Offer {
            id: self.0.offers.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            ring_digest: view.digest(),
            role,
            made_ms,
            version,
            groups: groups.iter().map(|group| group.name.clone()).collect(),
            by_member: names.zip(by_member.into_iter().map(interleaved)).collect(),
            finished: Mutex::default(),
            asked: Mutex::new(Instant::now()),
        }
    }

    /// Index of the other member of the ring that is to hold the entry of a key.
    fn offered_to(&self, view: &RingView, role: Role, group: &str, key: &[u8]) -> Option<usize> {
        let is_here = |index: usize| view.members()[index].name == *self.0.member;
        let owner = view.placed_index(group, key)?;
        match role {
            Role::Owner => (!is_here(owner)).then_some(owner),
            Role::StandIn if is_here(owner) => view.stand_in_index(group, key),
            Role::StandIn => None,
        }
    }

    fn batch(
        &self,
        offer: &Offer,
        view: &RingView,
        request: &TakeOverRequest,
    ) -> (Vec<HandedOver>, Option<TakeOverCursor>) {
        *offer.asked.lock() = Instant::now();
        let places = offer.by_member.get(&request.from).map_or(&[][..], |places| places);
        let cursor = request.cursor.filter(|cursor| cursor.list == offer.id);
        let begin = cursor.and_then(|cursor| usize::try_from(cursor.next).ok()).unwrap_or(0);
        let begin = begin.min(places.len());
        let groups = self.0.groups.load();
        let (mut batch, mut end) = (Batch::default(), begin);
        for offered in places[begin..].iter().take(BATCH_PLACES) {
            end += 1;
            let Some(group) = groups.get(&offer.groups[usize::from(offered.group)]) else {
                continue;
            };
            let now_ms = self.0.clock.now_ms();
            let found = group.main.entry_at(offered.place, Tick::from_millis(now_ms));
            let Some((key, hit)) = found else { continue };
            // Another entry may be there by now.
            let member = self.offered_to(view, offer.role, &group.name, &key);
            let is_wanted = member.is_some_and(|m| view.members()[m].name == request.from);
            if is_wanted && hit.version > request.after_version {
                batch.push(offered.group, group, to_stored(&key, hit, now_ms));
            }
            if batch.bytes >= BATCH_BYTES {
                break;
            }
        }
        self.0.offers.bytes.fetch_add(batch.bytes as u64, Ordering::Relaxed);
        let groups = batch.groups.into_values().collect();
        if end == places.len() {
            offer.finished.lock().insert(request.from.clone());
            return (groups, None);
        }
        (groups, Some(TakeOverCursor { list: offer.id, next: end as u64 }))
    }
}

impl Batch {
    fn push(&mut self, index: u16, group: &Group, entry: StoredEntry) {
        self.bytes += size(&entry);
        let handed_over = self.groups.entry(index).or_insert_with(|| of_group(group));
        handed_over.entries.push(entry);
    }
}

fn of_group(group: &Group) -> HandedOver {
    let (group, origin_id) = (group.name.to_string(), group.origin_id);
    HandedOver { group, origin_id, entries: Vec::new() }
}

/// Approximate size on the wire.
pub(super) fn size(entry: &StoredEntry) -> usize {
    const EACH: usize = 48;
    entry.key.len() + entry.value.len() + entry.tag_slots.len() * 3 + EACH
}
