//! Which members there are, which of them answer, and what ring they form.
//!
//! Addresses come from the seeds (names are resolved to all their addresses, again on an interval
//! and while members are missing) and from a member's `Admin.Ring`. Nothing runs while no call
//! is made: calls start the work that is due, one task of a kind at a time. What was learned
//! stays until something newer is learned; a silent resolver or ring takes nothing away.

mod heal;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use larder_proto::v1::admin_client::AdminClient;
use larder_proto::v1::{RingRequest, RingResponse};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::{Code, Request, Status};

use crate::error::Failure;
use crate::member::{Member, Standing};
use crate::network::Network;
use crate::retry::{Verdict, judge};
use crate::ring::{self, RingView};
use crate::route;
use crate::seed::Seed;

/// Limit of one look-up of a name.
const RESOLVE_LIMIT: Duration = Duration::from_secs(2);
/// Limit of one question for the ring, which also serves as the probe of a silent member.
const PROBE_LIMIT: Duration = Duration::from_millis(500);
/// Names are not looked up more often than this.
const RESOLVE_PAUSE: Duration = Duration::from_secs(1);
/// Members that are asked for the ring before a refresh gives up.
const RING_TRIES: usize = 3;

pub(crate) struct Directory {
    network: Arc<dyn Network>,
    seeds: Vec<Seed>,
    follow_ring: bool,
    refresh_every: Duration,
    known: ArcSwap<Known>,
    state: Mutex<State>,
    /// Counts events after which a failed call should try again: a silent member answered, or
    /// new addresses appeared.
    returns: watch::Sender<u64>,
    /// Counts finished refreshes.
    refreshes: watch::Sender<u64>,
    refreshing: AtomicBool,
    healing: AtomicBool,
    /// Calls that wait for a member to come back.
    waiters: AtomicUsize,
    started: Instant,
    /// Milliseconds after `started`.
    last_call: AtomicU64,
    rotation: AtomicUsize,
}

/// What is known at one moment. Replaced as a whole.
#[derive(Default)]
struct Known {
    /// Members at the seeds' addresses.
    seeds: Vec<Arc<Member>>,
    ring: Option<Arc<RingView>>,
}

struct State {
    /// Addresses by seed.
    addresses: Vec<Vec<String>>,
    ring: Option<Arc<RingView>>,
    /// Refreshes in a row that brought a ring of a lower revision than ours.
    lower_rings: u32,
    trouble: Option<Failure>,
    refreshed: Option<Instant>,
    resolved: Option<Instant>,
}

/// Sets a flag back, also when its task is dropped with its runtime.
struct Flag<'a>(&'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl Directory {
    pub(crate) fn new(
        network: Arc<dyn Network>,
        seeds: Vec<Seed>,
        follow_ring: bool,
        refresh_every: Duration,
    ) -> Arc<Self> {
        let addresses = seeds.iter().map(|seed| match seed {
            Seed::Address(address) => vec![address.to_string()],
            Seed::Name { .. } => Vec::new(),
        });
        let state = State {
            addresses: addresses.collect(),
            ring: None,
            lower_rings: 0,
            trouble: None,
            refreshed: None,
            resolved: None,
        };
        let directory = Self {
            network,
            seeds,
            follow_ring,
            refresh_every,
            known: ArcSwap::default(),
            state: Mutex::new(state),
            returns: watch::Sender::new(0),
            refreshes: watch::Sender::new(0),
            refreshing: AtomicBool::new(false),
            healing: AtomicBool::new(false),
            waiters: AtomicUsize::new(0),
            started: Instant::now(),
            last_call: AtomicU64::new(0),
            rotation: AtomicUsize::new(0),
        };
        directory.publish(&directory.state.lock());
        Arc::new(directory)
    }

    pub(crate) fn network(&self) -> &Arc<dyn Network> {
        &self.network
    }

    /// Members in the order in which a call should ask them: the key's owner, then the rest in
    /// turn, those last that would make it wait. Starts whatever upkeep is due.
    pub(crate) fn route(self: &Arc<Self>, group: &str, key: Option<&[u8]>) -> Vec<Arc<Member>> {
        self.upkeep();
        let known = self.known.load();
        let members = known.members();
        let owner = key.and_then(|key| known.ring.as_ref()?.owner(group, key));
        let rotation = self.rotation.fetch_add(1, Ordering::Relaxed);
        let standings: Vec<_> = members.iter().map(|m| m.standing()).collect();
        for (member, standing) in members.iter().zip(&standings) {
            match standing {
                Standing::Open => {}
                Standing::Unconnected => member.connect(&self.network),
                Standing::Down => self.heal(),
            }
        }
        let order = route::order(&standings, owner, rotation);
        order.into_iter().map(|i| Arc::clone(&members[i])).collect()
    }

    /// Index of a key's owner in the ring, for putting keys of one owner together.
    pub(crate) fn owner(&self, group: &str, key: &[u8]) -> Option<usize> {
        self.known.load().ring.as_ref()?.owner(group, key)
    }

    /// Every member known now.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        self.known.load().members()
    }

    /// Waits until at least one member is known.
    ///
    /// # Errors
    /// The names lead nowhere.
    ///
    /// # Cancel safety
    /// The look-up goes on for others.
    pub(crate) async fn ensure_members(self: &Arc<Self>) -> Result<(), Failure> {
        if !self.known.load().is_empty() {
            return Ok(());
        }
        let mut refreshes = self.refreshes.subscribe();
        self.start_refresh();
        // The sender is `self`: it outlives this wait.
        let _ = refreshes.changed().await;
        if !self.known.load().is_empty() {
            return Ok(());
        }
        Err(self.state.lock().trouble.clone().unwrap_or(Failure::Resolve {
            host: "the members' name".into(),
            message: "no address".into(),
        }))
    }

    /// A call did not reach a member. Often it has left, and the others know it already.
    pub(crate) fn lost(self: &Arc<Self>, member: &Member) {
        if member.set_down(true) {
            self.start_refresh();
            self.heal();
        }
    }

    /// A ring of this revision was seen in an answer.
    pub(crate) fn saw_revision(self: &Arc<Self>, revision: u64) {
        let ours = self.known.load().ring.as_ref().map_or(0, |r| r.revision());
        if self.follow_ring && revision > ours {
            self.start_refresh();
        }
    }

    /// Learns the ring from the members now.
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
        self.last_call.store(self.millis(now), Ordering::Relaxed);
        // A lock that another call holds means that somebody looks after it.
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
            let _flag = Flag(&directory.refreshing);
            directory.refresh().await;
        });
    }

    async fn resolve(&self) {
        let now = Instant::now();
        let named = self.seeds.iter().enumerate().filter_map(|(i, seed)| match seed {
            Seed::Name { host, port } => Some((i, host, *port)),
            Seed::Address(_) => None,
        });
        {
            let mut state = self.state.lock();
            if state.resolved.is_some_and(|at| now.duration_since(at) < RESOLVE_PAUSE) {
                return;
            }
            state.resolved = Some(now);
        }
        for (i, host, port) in named {
            let looked_up = timeout(RESOLVE_LIMIT, self.network.resolve(host, port)).await;
            let trouble = |message: String| Failure::Resolve { host: host.clone(), message };
            let mut state = self.state.lock();
            match looked_up {
                Ok(Ok(found)) if !found.is_empty() => {
                    let mut addresses: Vec<_> = found.iter().map(ToString::to_string).collect();
                    addresses.sort_unstable();
                    addresses.dedup();
                    state.trouble = None;
                    let news = state.addresses[i] != addresses;
                    state.addresses[i] = addresses;
                    self.publish(&state);
                    if news {
                        self.returns.send_modify(|n| *n += 1);
                    }
                }
                Ok(Ok(_)) => state.trouble = Some(trouble("no address".into())),
                Ok(Err(error)) => state.trouble = Some(trouble(error.to_string())),
                Err(_) => state.trouble = Some(trouble("the resolver is silent".into())),
            }
        }
    }

    async fn learn_ring(&self) {
        let mut members = self.members();
        let turn = self.rotation.fetch_add(1, Ordering::Relaxed) % members.len().max(1);
        members.rotate_left(turn);
        members.sort_by_key(|m| m.is_down());
        for member in members.iter().take(RING_TRIES) {
            match self.ask_ring(member).await {
                Ok(Some(ring)) => return self.take_ring(&ring),
                // A server without `Admin`: a sidecar, perhaps. Then any member serves.
                Ok(None) => return,
                Err(()) => {}
            }
        }
    }

    /// Asks one member for its ring, and notes whether it was reached.
    async fn ask_ring(&self, member: &Arc<Member>) -> Result<Option<RingResponse>, ()> {
        let asked = timeout(PROBE_LIMIT, async {
            let channel = member.channel(self.network()).await.map_err(|_| ())?;
            Ok(AdminClient::new(channel).ring(Request::new(RingRequest {})).await)
        });
        let answer = match asked.await {
            Ok(Ok(answer)) => answer.map(tonic::Response::into_inner),
            Ok(Err(())) | Err(_) => Err(Status::from_error("unreachable".into())),
        };
        let reached = answer.as_ref().err().is_none_or(|s| judge(s) != Verdict::Unreachable);
        if !reached {
            member.disconnect();
        }
        if member.set_down(!reached) && reached {
            tracing::debug!(member = member.address(), "member answers again");
            self.returns.send_modify(|n| *n += 1);
        }
        match answer {
            Ok(ring) => Ok(Some(ring)),
            Err(status) if reached && status.code() == Code::Unimplemented => Ok(None),
            Err(_) => Err(()),
        }
    }

    /// Takes a ring that a member told, unless ours is newer.
    fn take_ring(&self, told: &RingResponse) {
        let mut state = self.state.lock();
        let ours = state.ring.as_ref().map(|r| r.revision());
        if !ring::supersedes(ours, told.revision, &mut state.lower_rings) {
            return;
        }
        let last = state.ring.clone();
        match RingView::new(told, last.as_deref(), |address| self.member_at(address)) {
            Ok(view) => {
                view.members().iter().for_each(|member| member.connect(&self.network));
                state.ring = Some(Arc::new(view));
            }
            Err(reason) => {
                tracing::warn!(reason, revision = told.revision, "ring not understood");
                state.ring = None;
            }
        }
        self.publish(&state);
    }

    /// The member at an address: the one that we know, with its channel, or a new one.
    fn member_at(&self, address: &str) -> Arc<Member> {
        let known = self.known.load();
        let mut all = known.members().into_iter().chain(known.seeds.iter().cloned());
        all.find(|m| m.address() == address)
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
            let there = pool.iter().find(|m| m.address() == address);
            seeds.push(there.map_or_else(|| Arc::new(Member::new(address.clone())), Arc::clone));
        }
        self.known.store(Arc::new(Known { seeds, ring: state.ring.clone() }));
    }

    fn millis(&self, now: Instant) -> u64 {
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
