//! The state behind one lock, and the signals about it: a new revision, an injected fault.
//!
//! The lock is never held across an await.

use etcd_client::proto::PbResponseHeader;
use larder_runtime::clock::Clock;
use larder_runtime::random::Random;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::options::RegistryOptions;
use crate::state::State;

/// State shared by all connections.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: RegistryOptions,
    state: Mutex<(Identity, State)>,
    clock: Clock,
    /// Revision of the store, published after each change.
    revision: watch::Sender<i64>,
    /// True while no request is answered.
    stalled: watch::Sender<bool>,
    /// Incremented to end all streams.
    dropped: watch::Sender<u64>,
}

/// Ids in response headers. They change when all data is lost.
#[derive(Debug, Clone, Copy)]
struct Identity {
    cluster_id: u64,
    member_id: u64,
}

impl Identity {
    fn random(random: &Random) -> Self {
        Self { cluster_id: random.next(), member_id: random.next() }
    }
}

impl Shared {
    pub(crate) fn new(options: RegistryOptions, clock: Clock) -> Self {
        let state = Mutex::new((Identity::random(&options.random), empty_state(&options)));
        let revision = watch::Sender::new(state.lock().1.store.revision());
        let (stalled, dropped) = (watch::Sender::new(false), watch::Sender::new(0));
        Self { options, state, clock, revision, stalled, dropped }
    }

    /// Changes the state and notifies watchers if the revision changed.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State, u64) -> T) -> T {
        let (result, revision) = {
            let (_, state) = &mut *self.state.lock();
            (change(state, self.clock.now_ms()), state.store.revision())
        };
        self.revision.send_if_modified(|last| std::mem::replace(last, revision) != revision);
        result
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&State, u64) -> T) -> T {
        read(&self.state.lock().1, self.clock.now_ms())
    }

    /// Completes a response header. A revision that is already set is kept.
    pub(crate) fn header(&self, given: Option<PbResponseHeader>) -> PbResponseHeader {
        let (identity, state) = &*self.state.lock();
        PbResponseHeader {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            revision: given.map_or_else(|| state.store.revision(), |header| header.revision),
            // A single member is always the leader, so the term never changes.
            raft_term: 2,
        }
    }

    /// Loses everything, like a cluster recreated with empty disks.
    pub(crate) fn lose_all_data(&self) {
        *self.state.lock() = (Identity::random(&self.options.random), empty_state(&self.options));
        self.drop_streams();
        self.change(|_, _| ());
    }

    /// An id for a lease: positive like etcd's ids, and never 0, which means no lease.
    pub(crate) fn spare_lease_id(&self) -> i64 {
        (self.options.random.next() >> 1).cast_signed() | 1
    }

    pub(crate) fn revisions(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    pub(crate) fn set_stalled(&self, stalled: bool) {
        if !stalled {
            self.change(|state, now_ms| state.leases.renew_all(now_ms));
        }
        self.stalled.send_replace(stalled);
    }

    pub(crate) fn is_stalled(&self) -> bool {
        *self.stalled.borrow()
    }

    /// Waits while the registry is stalled.
    pub(crate) async fn wait_until_resumed(&self) {
        let mut stalled = self.stalled.subscribe();
        // Fails only if the sender is dropped, and `self` holds it.
        let _ = stalled.wait_for(|stalled| !stalled).await;
    }

    pub(crate) fn drop_streams(&self) {
        self.dropped.send_modify(|count| *count += 1);
    }

    /// Receiver that changes when all streams have to end.
    pub(crate) fn drops(&self) -> watch::Receiver<u64> {
        self.dropped.subscribe()
    }
}

fn empty_state(options: &RegistryOptions) -> State {
    State::new(options.history_revisions, i64::from(options.min_lease_ttl_seconds))
}
