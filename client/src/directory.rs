//! The known members, which of them answer, and the ring that they form.
//!
//! Addresses come from the configured endpoints (a name is resolved to all its addresses, again on
//! an interval and while members are down) and from a member's `Admin.Ring`. No task runs while no
//! call is made: calls start the work that is due, at most one task of each kind. What is known
//! stays until something newer replaces it; a resolver or member that does not answer removes
//! nothing.

mod probe;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use larder_proto::v1::admin_client::AdminClient;
use larder_proto::v1::{RingRequest, RingResponse};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Status};

use crate::balance::{self, Balance};
use crate::endpoint::{Endpoint, Target};
use crate::error::Failure;
use crate::member::{Availability, Member};
use crate::network::Network;
use crate::ring::{self, RoutingTable};
use crate::route;
use crate::settings::Settings;
use crate::spread::SpreadKeys;
use crate::status::{Verdict, judge};

/// Time limit of resolving one name.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);
/// Time limit of one request for the ring, which is also the probe of a member.
pub(crate) const PROBE_LIMIT: Duration = Duration::from_millis(500);
/// Names are not resolved more often than this.
const RESOLVE_PAUSE: Duration = Duration::from_secs(1);
/// Members that a refresh asks for the ring before it gives up.
const RING_TRIES: usize = 3;

pub(crate) struct Directory {
    network: Arc<dyn Network>,
    endpoints: Vec<Endpoint>,
    follow_ring: bool,
    refresh_every: Duration,
    balance: Balance,
    zone: Option<String>,
    /// Keys that any member may be asked for, although the ring is known.
    spread: SpreadKeys,
    known: ArcSwap<Known>,
    state: Mutex<State>,
    /// Counts events after which a failed call should try again: a member that was down answered,
    /// or new addresses appeared.
    returns: watch::Sender<u64>,
    /// Counts finished refreshes.
    refreshes: watch::Sender<u64>,
    refreshing: AtomicBool,
    probing: AtomicBool,
    /// Calls that wait for a member to answer again.
    waiters: AtomicUsize,
    started: Instant,
    /// Milliseconds since `started`.
    last_call: AtomicU64,
    rotation: AtomicUsize,
    /// Counts the choices of a member for calls that any member may take.
    turns: AtomicUsize,
}

/// What is known at one moment. Replaced as a whole.
#[derive(Default)]
struct Known {
    /// Members at the endpoints' addresses.
    seeds: Vec<Arc<Member>>,
    ring: Option<Arc<RoutingTable>>,
}

struct State {
    /// Addresses of each endpoint.
    addresses: Vec<Vec<String>>,
    ring: Option<Arc<RoutingTable>>,
    /// Refreshes in a row that brought a ring of a lower revision than `ring`.
    lower_rings: u32,
    resolve_failure: Option<Failure>,
    refreshed: Option<Instant>,
    resolved: Option<Instant>,
}

/// Clears a flag, also when its task is dropped with its runtime.
struct ClearOnDrop<'a>(&'a AtomicBool);

impl Drop for ClearOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Directory {
    pub(crate) fn new(
        network: Arc<dyn Network>,
        endpoints: Vec<Endpoint>,
        settings: &Settings,
    ) -> Arc<Self> {
        let addresses = endpoints.iter().map(|endpoint| match &endpoint.target {
            Target::Address(address) => vec![address.to_string()],
            Target::Name { .. } => Vec::new(),
        });
        let state = State {
            addresses: addresses.collect(),
            ring: None,
            lower_rings: 0,
            resolve_failure: None,
            refreshed: None,
            resolved: None,
        };
        let directory = Self {
            network,
            endpoints,
            follow_ring: settings.follow_ring,
            refresh_every: settings.refresh,
            balance: settings.balance,
            zone: settings.zone.clone(),
            spread: SpreadKeys::default(),
            known: ArcSwap::default(),
            state: Mutex::new(state),
            returns: watch::Sender::new(0),
            refreshes: watch::Sender::new(0),
            refreshing: AtomicBool::new(false),
            probing: AtomicBool::new(false),
            waiters: AtomicUsize::new(0),
            started: Instant::now(),
            last_call: AtomicU64::new(0),
            rotation: AtomicUsize::new(0),
            turns: AtomicUsize::new(0),
        };
        directory.publish(&directory.state.lock());
        Arc::new(directory)
    }

    pub(crate) fn network(&self) -> &Arc<dyn Network> {
        &self.network
    }

    /// Members in the order in which a call should try them: see [`route::order`]. Starts the
    /// upkeep that is due.
    pub(crate) fn route(self: &Arc<Self>, group: &str, key: Option<&[u8]>) -> Vec<Arc<Member>> {
        self.upkeep();
        let known = self.known.load();
        let members = known.members();
        let is_spread = key.is_some_and(|key| self.is_spread(group, key));
        let owner = key.filter(|_| !is_spread);
        let owner = owner.and_then(|key| known.ring.as_ref()?.owner(group, key));
        let rotation = self.rotation.fetch_add(1, Ordering::Relaxed);
        let availability: Vec<_> = members.iter().map(|m| m.availability()).collect();
        for (member, availability) in members.iter().zip(&availability) {
            match availability {
                Availability::Connected => {}
                Availability::Unconnected => member.connect(&self.network),
                Availability::Down => self.start_probes(),
            }
        }
        let first = owner.or_else(|| self.choose(&known, &members, &availability, is_spread));
        let order = route::order(&availability, first, rotation);
        order.into_iter().map(|i| Arc::clone(&members[i])).collect()
    }

    /// A member for a call that any member may take. With `near`, one of this client's zone, if one
    /// of them answers.
    fn choose(
        &self,
        known: &Known,
        members: &[Arc<Member>],
        availability: &[Availability],
        near: bool,
    ) -> Option<usize> {
        let is_near = |(at, zone): (usize, Option<&str>)| {
            let is_up = availability[at] != Availability::Down;
            (is_up && zone == self.zone.as_deref()).then_some(at)
        };
        let ring = known.ring.iter().filter(|_| near && self.zone.is_some());
        let near = ring.flat_map(|ring| ring.zones()).enumerate().filter_map(is_near);
        let mut candidates = balance::most_available(near, availability);
        if candidates.is_empty() {
            candidates = balance::most_available(0..members.len(), availability);
        }
        let in_flight = |at: usize| members[at].in_flight();
        self.balance.choose(&candidates, self.turn(), in_flight, rand::random())
    }

    /// The number of a choice among members.
    pub(crate) fn turn(&self) -> usize {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the reads of a key are to be spread over all members.
    pub(crate) fn is_spread(&self, group: &str, key: &[u8]) -> bool {
        self.spread.contains(group, key, Instant::now())
    }

    /// Spreads the reads of a key for `ms`; 0 changes nothing.
    pub(crate) fn spread(&self, group: &str, key: &Bytes, ms: u32) {
        if ms > 0 {
            self.spread.learn(group, key, ms, Instant::now());
        }
    }

    /// Index of a key's owner in the ring, for grouping keys by owner.
    pub(crate) fn owner(&self, group: &str, key: &[u8]) -> Option<usize> {
        self.known.load().ring.as_ref()?.owner(group, key)
    }

    /// All members known now.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        self.known.load().members()
    }

    /// True unless every known member is down.
    pub(crate) fn has_answering_member(&self) -> bool {
        self.members().iter().any(|member| !member.is_down())
    }

    /// Waits until at least one member is known.
    ///
    /// # Errors
    /// No name resolves to an address.
    ///
    /// # Cancel safety
    /// Safe: the refresh continues for other callers.
    pub(crate) async fn ensure_members(self: &Arc<Self>) -> Result<(), Failure> {
        if !self.known.load().is_empty() {
            return Ok(());
        }
        let mut refreshes = self.refreshes.subscribe();
        self.start_refresh();
        // `self` owns the sender, so it outlives this wait.
        let _ = refreshes.changed().await;
        if !self.known.load().is_empty() {
            return Ok(());
        }
        Err(self.state.lock().resolve_failure.clone().unwrap_or(Failure::NoMember))
    }

    /// Records that a call did not reach a member. Often it has left the ring, and the others know
    /// that already.
    pub(crate) fn lost(self: &Arc<Self>, member: &Member) {
        if member.set_down(true) {
            self.start_refresh();
            self.start_probes();
        }
    }

    /// Refreshes the ring if an answer carried a newer revision.
    pub(crate) fn saw_revision(self: &Arc<Self>, revision: u64) {
        let known = self.known.load().ring.as_ref().map_or(0, |r| r.revision());
        if self.follow_ring && revision > known {
            self.start_refresh();
        }
    }

    /// Resolves the names and asks the members for the ring.
    pub(crate) async fn refresh(&self) {
        self.resolve().await;
        if self.follow_ring {
            self.learn_ring().await;
        }
        self.state.lock().refreshed = Some(Instant::now());
        self.refreshes.send_modify(|n| *n += 1);
    }

    fn upkeep(self: &Arc<Self>) {
        let now = Instant::now();
        self.last_call.store(self.millis_since_start(now), Ordering::Relaxed);
        // If another call holds the lock, that call does the upkeep.
        let due = self.state.try_lock().is_some_and(|state| {
            state.refreshed.is_none_or(|at| now.duration_since(at) >= self.refresh_every)
        });
        if due {
            self.start_refresh();
        }
    }

    fn start_refresh(self: &Arc<Self>) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let directory = Arc::clone(self);
        tokio::spawn(async move {
            let _flag = ClearOnDrop(&directory.refreshing);
            directory.refresh().await;
        });
    }

    async fn resolve(&self) {
        let now = Instant::now();
        let names =
            self.endpoints.iter().enumerate().filter_map(|(i, endpoint)| match &endpoint.target {
                Target::Name { host, port } => Some((i, host, *port)),
                Target::Address(_) => None,
            });
        {
            let mut state = self.state.lock();
            if state.resolved.is_some_and(|at| now.duration_since(at) < RESOLVE_PAUSE) {
                return;
            }
            state.resolved = Some(now);
        }
        for (i, host, port) in names {
            let resolved = timeout(RESOLVE_LIMIT, self.network.resolve(host, port)).await;
            let failure = |message: String| Some(Failure::Resolve { host: host.clone(), message });
            let mut state = self.state.lock();
            match resolved {
                Ok(Ok(found)) if !found.is_empty() => {
                    let mut addresses: Vec<_> = found.iter().map(ToString::to_string).collect();
                    addresses.sort_unstable();
                    addresses.dedup();
                    state.resolve_failure = None;
                    let changed = state.addresses[i] != addresses;
                    state.addresses[i] = addresses;
                    self.publish(&state);
                    if changed {
                        self.returns.send_modify(|n| *n += 1);
                    }
                }
                Ok(Ok(_)) => state.resolve_failure = failure("the resolver found none".into()),
                Ok(Err(error)) => state.resolve_failure = failure(error.to_string()),
                Err(_) => state.resolve_failure = failure("the resolver timed out".into()),
            }
        }
    }

    async fn learn_ring(&self) {
        let mut members = self.members();
        let turn = self.rotation.fetch_add(1, Ordering::Relaxed) % members.len().max(1);
        members.rotate_left(turn);
        members.sort_by_key(|m| m.is_down());
        for member in members.iter().take(RING_TRIES) {
            match self.probe(member).await {
                Ok(Some(ring)) => return self.update_ring(ring),
                // A server without `Admin`, such as a sidecar, takes every key.
                Ok(None) => return,
                Err(()) => {}
            }
        }
    }

    /// Asks one member for its ring, and records whether that reached it.
    async fn probe(&self, member: &Arc<Member>) -> Result<Option<RingResponse>, ()> {
        let response = timeout(PROBE_LIMIT, async {
            let channel = member.channel(self.network()).await.map_err(|_| ())?;
            Ok(AdminClient::new(channel).ring(Request::new(RingRequest {})).await)
        });
        let response = match response.await {
            Ok(Ok(response)) => response.map(tonic::Response::into_inner),
            Ok(Err(())) | Err(_) => Err(Status::from_error("unreachable".into())),
        };
        let verdict = response.as_ref().err().map(judge);
        let reached = !matches!(verdict, Some(Verdict::Unreachable | Verdict::NotGrpc { .. }));
        if !reached {
            member.disconnect();
        }
        if member.set_down(!reached) && reached {
            tracing::debug!(member = member.address(), "member answers again");
            self.returns.send_modify(|n| *n += 1);
        }
        match response {
            Ok(ring) => Ok(Some(ring)),
            Err(status) if reached && status.code() == Code::Unimplemented => Ok(None),
            Err(_) => Err(()),
        }
    }

    /// Replaces the ring unless the current one is newer.
    fn update_ring(&self, response: RingResponse) {
        let mut state = self.state.lock();
        let (current, new) = (state.ring.as_ref().map(|r| r.revision()), response.revision);
        if !ring::replaces(current, new, &mut state.lower_rings) {
            return;
        }
        let last = state.ring.clone();
        match RoutingTable::new(response, last.as_deref(), |address| self.member_at(address)) {
            Ok(table) => {
                table.members().iter().for_each(|member| member.connect(&self.network));
                state.ring = Some(Arc::new(table));
            }
            Err(problem) => {
                tracing::warn!(problem, revision = new, "unknown ring format: ring ignored");
                state.ring = None;
            }
        }
        self.publish(&state);
    }

    /// The known member at an address, with its channel, or else a new one.
    fn member_at(&self, address: &str) -> Arc<Member> {
        let known = self.known.load();
        let mut members = known.members().into_iter().chain(known.seeds.iter().cloned());
        members
            .find(|m| m.address() == address)
            .unwrap_or_else(|| Arc::new(Member::new(address.to_owned())))
    }

    fn publish(&self, state: &State) {
        let known = self.known.load();
        let ring_members = state.ring.iter().flat_map(|r| r.members());
        let pool: Vec<_> =
            ring_members.cloned().chain(known.members()).chain(known.seeds.clone()).collect();
        let mut seeds: Vec<Arc<Member>> = Vec::new();
        for address in state.addresses.iter().flatten() {
            if seeds.iter().any(|m| m.address() == address) {
                continue;
            }
            let known = pool.iter().find(|m| m.address() == address);
            seeds.push(known.map_or_else(|| Arc::new(Member::new(address.clone())), Arc::clone));
        }
        self.known.store(Arc::new(Known { seeds, ring: state.ring.clone() }));
    }

    fn millis_since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Known {
    /// Ring members in the ring's order, then seeds that are not among them.
    fn members(&self) -> Vec<Arc<Member>> {
        let mut members: Vec<Arc<Member>> =
            self.ring.iter().flat_map(|r| r.members().iter().cloned()).collect();
        for seed in &self.seeds {
            if !members.iter().any(|m| m.address() == seed.address()) {
                members.push(Arc::clone(seed));
            }
        }
        members
    }

    fn is_empty(&self) -> bool {
        self.seeds.is_empty() && self.ring.is_none()
    }
}
