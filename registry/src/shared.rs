//! The state behind one lock, and the signals around it: a new revision, a fault.
//!
//! The lock is never held across an await.

use etcd_client::proto::PbResponseHeader;
use larder_runtime::clock::Clock;
use larder_runtime::random::Random;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::RegistryOptions;
use crate::state::State;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: RegistryOptions,
    state: Mutex<(Identity, State)>,
    clock: Clock,
    /// Revision of the store, told after each change.
    revision: watch::Sender<i64>,
    /// True while nothing is answered.
    stalled: watch::Sender<bool>,
    /// Counts orders to end all streams.
    dropped: watch::Sender<u64>,
}

/// Who answers; another one after everything was lost.
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
        let state = Mutex::new((Identity::random(&options.random), fresh(&options)));
        let revision = watch::Sender::new(state.lock().1.store.revision());
        let (stalled, dropped) = (watch::Sender::new(false), watch::Sender::new(0));
        Self { options, state, clock, revision, stalled, dropped }
    }

    /// Runs `step` on the state and tells watchers when the revision moved.
    pub(crate) fn change<T>(&self, step: impl FnOnce(&mut State, u64) -> T) -> T {
        let (result, revision) = {
            let (_, state) = &mut *self.state.lock();
            (step(state, self.clock.now_ms()), state.store.revision())
        };
        self.revision.send_if_modified(|told| std::mem::replace(told, revision) != revision);
        result
    }

    /// Reads the state.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&State, u64) -> T) -> T {
        look(&self.state.lock().1, self.clock.now_ms())
    }

    /// Completes a header. One that carries a revision already keeps it.
    pub(crate) fn header(&self, given: Option<PbResponseHeader>) -> PbResponseHeader {
        let (identity, state) = &*self.state.lock();
        PbResponseHeader {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            revision: given.map_or_else(|| state.store.revision(), |header| header.revision),
            // One leader for ever: nobody else could be elected.
            raft_term: 2,
        }
    }

    /// Loses everything, as a cluster made anew from empty disks.
    pub(crate) fn forget(&self) {
        *self.state.lock() = (Identity::random(&self.options.random), fresh(&self.options));
        self.drop_streams();
        self.change(|_, _| ());
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
    pub(crate) async fn pass(&self) {
        let mut stalled = self.stalled.subscribe();
        // Fails only when the sender is gone, and `self` holds it.
        let _ = stalled.wait_for(|stalled| !stalled).await;
    }

    pub(crate) fn drop_streams(&self) {
        self.dropped.send_modify(|count| *count += 1);
    }

    /// Changes at the next order to end all streams.
    pub(crate) fn drops(&self) -> watch::Receiver<u64> {
        self.dropped.subscribe()
    }
}

fn fresh(options: &RegistryOptions) -> State {
    State::new(options.history_revisions, i64::from(options.min_lease_ttl_seconds))
}
