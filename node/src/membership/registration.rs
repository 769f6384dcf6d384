//! Maintains this member's key in the registry, under a lease that it renews.
//!
//! It never takes the key from a successor: after the first registration, another uid under this
//! name means that another pod has taken over, and this one waits until the name is free. Races:
//!
//! 1. The lease expires while the watch is healthy. The view shows this member as departed, which
//!    triggers an early renewal. The renewal finds the lease gone, requests a new one and writes
//!    the key again.
//! 2. A successor starts while this member drains. The successor's first registration overwrites
//!    the key unconditionally, under its own lease. Neither the end of this member's lease nor its
//!    deregistration, which is conditional on its own revision, affects that key.
//! 3. The key is deleted by hand. The lease still exists; the view triggers a renewal, which writes
//!    the key again under the same lease.

use std::convert::Infallible;

use larder_backoff::Backoff;
use larder_proto::registry::Registration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::context::MembershipContext;
use super::registry::{Error, Session, StoredValue};
use super::view::{LEAVING, MembershipView};

/// Attempts to write the key while others write it at the same time.
const CONTENTION_TRIES: u32 = 5;

/// Maintains one registration.
pub(super) struct Registrar {
    context: MembershipContext,
    name: String,
    registration: Registration,
    registered: watch::Sender<bool>,
    leaving: CancellationToken,
    /// The last granted lease, unless it is known to be gone.
    lease: Option<i64>,
    /// Revision at which the key was last written; 0 before the first time.
    written: u64,
    /// True while another pod holds this name.
    superseded: bool,
}

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
        registered: watch::Sender<bool>,
        leaving: CancellationToken,
    ) -> Self {
        let (lease, written, superseded) = (None, 0, false);
        Self { context, name, registration, registered, leaving, lease, written, superseded }
    }

    /// Runs until the member leaves.
    pub(super) async fn run(mut self) {
        let leaving = self.leaving.clone();
        tokio::select! {
            biased;
            () = leaving.cancelled() => {}
            () = self.maintain() => {}
        }
        if let Err(error) = self.deregister().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "deregistration failed, the lease will expire");
        }
        self.registered.send_replace(false);
    }

    /// Never returns.
    async fn maintain(&mut self) {
        let mut backoff = self.context.backoff();
        loop {
            let Err(error) = self.session(&mut backoff).await;
            let delay = backoff.next_delay(self.context.random.ratio());
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                retry_ms = delay.as_millis(),
                "registration not renewed"
            );
            tokio::time::sleep(delay).await;
        }
    }

    /// One connection. Renews at once, then when the next renewal is due or the view shows that the
    /// key is missing.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<Infallible, Error> {
        let session = self.context.registry.connect().await?;
        let mut views = self.context.board.subscribe();
        loop {
            self.renew(session.as_ref()).await?;
            backoff.reset();
            let missing = views.wait_for(|view| self.own_key(view) == OwnKey::Missing);
            let interval = self.context.renewal_interval();
            let is_missing = tokio::time::timeout(interval, missing).await.is_ok();
            if is_missing {
                // Limits how often a missing key is rewritten.
                let delay = backoff.next_delay(self.context.random.ratio());
                tokio::time::sleep(delay).await;
            }
        }
    }

    /// Renews the lease, and makes sure that the key is attached to it.
    async fn renew(&mut self, session: &dyn Session) -> Result<(), Error> {
        if let Some(lease) = self.lease
            && !session.keep_alive(lease).await?
        {
            tracing::warn!("lease lost, registering again");
            self.lease = None;
            self.registered.send_replace(false);
        }
        let in_place = self.lease.is_some()
            && self.written > 0
            && !self.superseded
            && self.own_key(&self.context.board.view()) == OwnKey::InPlace;
        if in_place { Ok(()) } else { self.claim(session).await }
    }

    async fn claim(&mut self, session: &dyn Session) -> Result<(), Error> {
        let key = self.context.keys.member(&self.name);
        for _ in 0..CONTENTION_TRIES {
            let stored = session.get(&key).await?;
            if stored.as_ref().is_some_and(|stored| self.is_successor(stored)) {
                return self.step_back(session).await;
            }
            let lease = match self.lease {
                Some(lease) => lease,
                None => *self.lease.insert(session.grant(self.context.lease_ttl.as_secs()).await?),
            };
            let value = self.value(self.registration.op);
            let expected = stored.map_or(0, |stored| stored.revision);
            if let Some(revision) = session.put_if(&key, value, lease, expected).await? {
                tracing::info!(revision, "registered");
                (self.written, self.superseded) = (revision, false);
                self.registered.send_replace(true);
                return Ok(());
            }
        }
        Err(Error::Contended)
    }

    /// True if another pod holds the name that this member held before: that pod came later.
    fn is_successor(&self, stored: &StoredValue) -> bool {
        let uid = serde_json::from_slice::<Registration>(&stored.value)
            .map(|registration| registration.metadata.uid);
        // An unreadable value belongs to no pod.
        self.written > 0 && uid.is_ok_and(|uid| uid != self.registration.metadata.uid)
    }

    async fn step_back(&mut self, session: &dyn Session) -> Result<(), Error> {
        if !self.superseded {
            tracing::error!(name = self.name, "another pod registered under this member's name");
        }
        self.superseded = true;
        self.registered.send_replace(false);
        if let Some(lease) = self.lease.take() {
            session.revoke(lease).await?;
        }
        Ok(())
    }

    async fn deregister(&mut self) -> Result<(), Error> {
        let Some(lease) = self.lease.take() else { return Ok(()) };
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
            // A superseded member waits until its name is free.
            Some(_) if self.superseded => OwnKey::InPlace,
            _ => OwnKey::Missing,
        }
    }
}
