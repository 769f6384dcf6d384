//! Maintains this member's key in the registry, under a lease that it renews.
//!
//! The newest pod holds the name. Uids have no order, a member has no Kubernetes client, and a
//! registration vanishes with its lease, so the order is a key of its own without a lease: the
//! [`Succession`]. A pod appends its uid before its first registration. Whoever finds its uid there
//! followed by another one is *superseded*: an older pod, which may live on while its node is cut
//! off from Kubernetes. It gives up the name for good, also after a restart of its container.
//! `docs/adr/0010-succession-of-pods.md` has the alternatives.
//!
//! Races:
//! 1. The lease expires while the watch is healthy. The view shows this member as departed, which
//!    triggers an early renewal. The renewal finds the lease gone, requests a new one and writes
//!    the key again.
//! 2. A successor starts while this member drains. The successor overwrites the key under its own
//!    lease. Neither the end of this member's lease nor its deregistration, which is conditional on
//!    its own revision, affects that key.
//! 3. The key is deleted or overwritten by hand. The lease still exists; the view triggers a
//!    renewal, which writes the key again under the same lease.
//! 4. A successor appends its uid after this member found itself the newest. The key was read
//!    before the succession, so either the successor's registration fails this member's write, or
//!    it overwrites it.
//! 5. The registry is rebuilt empty, and an older pod whose container restarts appends its uid
//!    first. The newer pod finds a succession without its own uid, and appends it.
//! 6. The cluster is deleted, and with it its keys, while members still run. They register again
//!    under their leases, but write no succession, which would never expire.

use larder_backoff::Backoff;
use larder_proto::registry::{Registration, Succession};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::context::MembershipContext;
use super::registry::{Error, NO_LEASE, Session, StoredValue};
use super::view::{LEAVING, MembershipView};

/// Attempts to write the key while others write it at the same time.
const CONTENTION_TRIES: u32 = 5;

/// Maintains one registration.
pub(super) struct Registrar {
    context: MembershipContext,
    name: String,
    registration: Registration,
    /// The weight that the registration should have.
    weight: watch::Receiver<u32>,
    registered: watch::Sender<bool>,
    superseded: watch::Sender<bool>,
    leaving: CancellationToken,
    /// The last granted lease, unless it is known to be gone.
    lease: Option<i64>,
    /// Revision at which the key was last written; 0 before the first time.
    written: u64,
    /// False if the registration has changed since then.
    is_written: bool,
}

/// A newer pod has registered under this member's name.
struct Superseded;

/// State of this member's key according to a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OwnKey {
    /// Nothing to do: the key is this member's, or the view predates its last write.
    InPlace,
    /// The key is missing, or is another pod's.
    Missing,
}

impl Registrar {
    pub(super) fn new(
        context: MembershipContext,
        name: String,
        registration: Registration,
        weight: watch::Receiver<u32>,
        (registered, superseded): (watch::Sender<bool>, watch::Sender<bool>),
        leaving: CancellationToken,
    ) -> Self {
        Self {
            context,
            name,
            registration,
            weight,
            registered,
            superseded,
            leaving,
            lease: None,
            written: 0,
            is_written: false,
        }
    }

    /// Runs until the member leaves.
    pub(super) async fn run(mut self) {
        let leaving = self.leaving.clone();
        tokio::select! {
            biased;
            () = leaving.cancelled() => {}
            Superseded = self.maintain() => {
                self.step_back().await;
                leaving.cancelled().await;
            }
        }
        if let Err(error) = self.deregister().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "deregistration failed, the lease will expire");
        }
        self.registered.send_replace(false);
    }

    async fn maintain(&mut self) -> Superseded {
        let mut backoff = self.context.backoff();
        loop {
            let error = match self.session(&mut backoff).await {
                Ok(superseded) => return superseded,
                Err(error) => error,
            };
            let delay = backoff.next_delay(self.context.random.ratio());
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                retry_ms = delay.as_millis(),
                "registration not renewed"
            );
            tokio::time::sleep(delay).await;
        }
    }

    /// One connection. Renews at once, then when the next renewal is due, the view shows that the
    /// key is missing, or the weight changes.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<Superseded, Error> {
        let session = self.context.registry.connect().await?;
        let mut views = self.context.board.subscribe();
        let mut weight = self.weight.clone();
        loop {
            self.set_weight(*weight.borrow_and_update());
            if let Some(superseded) = self.renew(session.as_ref()).await? {
                return Ok(superseded);
            }
            backoff.reset();
            let missing = views.wait_for(|view| self.own_key(view) == OwnKey::Missing);
            let interval = self.context.renewal_interval();
            let is_missing = tokio::select! {
                missing = tokio::time::timeout(interval, missing) => missing.is_ok(),
                Ok(()) = weight.changed() => false,
            };
            if is_missing {
                // Limits how often a missing key is rewritten.
                let delay = backoff.next_delay(self.context.random.ratio());
                tokio::time::sleep(delay).await;
            }
        }
    }

    fn set_weight(&mut self, weight: u32) {
        let registered = &mut self.registration.metadata.weight;
        self.is_written &= *registered == weight;
        *registered = weight;
    }

    /// Renews the lease, and makes sure that the key is attached to it.
    async fn renew(&mut self, session: &dyn Session) -> Result<Option<Superseded>, Error> {
        if let Some(lease) = self.lease {
            let sent_ms = self.context.visibility.now_ms();
            if session.keep_alive(lease).await? {
                self.context.visibility.lease_confirmed(sent_ms);
            } else {
                tracing::warn!("lease lost, registering again");
                self.lease = None;
                self.context.visibility.lost();
                self.registered.send_replace(false);
            }
        }
        let in_place = self.lease.is_some()
            && self.is_written
            && self.own_key(&self.context.board.view()) == OwnKey::InPlace;
        if in_place { Ok(None) } else { self.claim(session).await }
    }

    async fn claim(&mut self, session: &dyn Session) -> Result<Option<Superseded>, Error> {
        let key = self.context.keys.member(&self.name);
        for _ in 0..CONTENTION_TRIES {
            // Read before the succession: see race 4.
            let stored = session.get(&key).await?;
            if !self.is_newest(session).await? {
                return Ok(Some(Superseded));
            }
            let lease = match self.lease {
                Some(lease) => lease,
                None => self.grant(session).await?,
            };
            let value = self.value(self.registration.op);
            let expected = stored.map_or(0, |stored| stored.revision);
            if let Some(revision) = session.put_if(&key, value, lease, expected).await? {
                tracing::info!(revision, "registered");
                (self.written, self.is_written) = (revision, true);
                self.context.visibility.registered(revision);
                self.registered.send_replace(true);
                return Ok(None);
            }
        }
        Err(Error::Contended)
    }

    async fn grant(&mut self, session: &dyn Session) -> Result<i64, Error> {
        let sent_ms = self.context.visibility.now_ms();
        let lease = session.grant(self.context.lease_ttl.as_secs()).await?;
        self.context.visibility.lease_confirmed(sent_ms);
        self.lease = Some(lease);
        Ok(lease)
    }

    /// Appends this pod to the succession unless it is there. False if another pod follows it. A
    /// missing succession is not written again: see races 5 and 6.
    async fn is_newest(&self, session: &dyn Session) -> Result<bool, Error> {
        let key = self.context.keys.succession(&self.name);
        let uid = &self.registration.metadata.uid;
        for _ in 0..CONTENTION_TRIES {
            let stored = session.get(&key).await?;
            if stored.is_none() && self.written > 0 {
                return Ok(true);
            }
            let mut succession = stored.as_ref().map(parse).unwrap_or_default();
            if succession.contains(uid) {
                return Ok(succession.newest() == Some(uid));
            }
            succession.append(uid);
            let value = serde_json::to_vec(&succession).expect("a list of strings");
            let expected = stored.map_or(0, |stored| stored.revision);
            if session.put_if(&key, value, NO_LEASE, expected).await?.is_some() {
                return Ok(true);
            }
        }
        Err(Error::Contended)
    }

    async fn step_back(&mut self) {
        tracing::error!(
            name = self.name,
            uid = self.registration.metadata.uid,
            "superseded by a newer pod of this name, refusing requests from now on; delete this \
             pod, or, outside Kubernetes, give each member its own name"
        );
        self.context.visibility.lost();
        self.superseded.send_replace(true);
        self.registered.send_replace(false);
        if let Some(lease) = self.lease.take()
            && let Err(error) = self.revoke(lease).await
        {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "lease not revoked, it will expire");
        }
    }

    async fn revoke(&self, lease: i64) -> Result<(), Error> {
        self.context.registry.connect().await?.revoke(lease).await
    }

    async fn deregister(&mut self) -> Result<(), Error> {
        let Some(lease) = self.lease.take() else { return Ok(()) };
        self.context.visibility.lost();
        let session = self.context.registry.connect().await?;
        let key = self.context.keys.member(&self.name);
        // Conditional on this member's own write: a later writer keeps the key.
        session.put_if(&key, self.value(LEAVING), lease, self.written).await?;
        session.revoke(lease).await?;
        tracing::info!("left the cluster");
        Ok(())
    }

    fn value(&self, op: u8) -> Vec<u8> {
        let registration = Registration { op, ..self.registration.clone() };
        serde_json::to_vec(&registration).expect("strings and numbers only")
    }

    fn own_key(&self, view: &MembershipView) -> OwnKey {
        if view.seen() < self.written {
            return OwnKey::InPlace;
        }
        let is_departed = view.departed.contains_key(&self.name);
        match view.members.get(&self.name).filter(|_| !is_departed) {
            Some(held) if held.metadata.uid == self.registration.metadata.uid => OwnKey::InPlace,
            _ => OwnKey::Missing,
        }
    }
}

/// An unreadable succession counts as empty.
fn parse(stored: &StoredValue) -> Succession {
    serde_json::from_slice(&stored.value).unwrap_or_else(|error| {
        tracing::warn!(%error, "the succession of this member's name is unreadable, replaced");
        Succession::default()
    })
}
