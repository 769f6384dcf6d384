//! Keeps our own key in the registry, under a lease that a beat renews.
//!
//! Never takes a key away from a successor: after the first registration a foreign uid under our
//! name means that another pod has taken over, and we stay out until the name is free. Races:
//!
//! 1. Our lease runs out while the watch is healthy. The View shows us departed, which wakes the
//!    beat early; the lease is found gone, a new one is granted and the key written again.
//! 2. A successor starts while we drain. It overwrites our key under its own lease (first
//!    registration wins by force), so neither our lease's end nor our farewell, which is written
//!    only over our own revision, touches it.
//! 3. Somebody deletes our key by hand. The lease stands; the View wakes the beat, which writes
//!    the key again under the same lease.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use larder_backoff::Backoff;
use larder_proto::registry::Registration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::registry::{Error, Held, Session};
use super::service::{Context, beat};
use super::{LEAVING, View};

/// Tries to write a key that others write at the same time.
const CONTENTION_TRIES: u32 = 5;

/// Keeps one registration.
pub(super) struct Registrar {
    context: Context,
    name: String,
    registration: Registration,
    registered: watch::Sender<bool>,
    farewell: CancellationToken,
    /// The lease that was granted last, while it may stand.
    lease: Option<i64>,
    /// The revision at which our key was written last; 0 before the first time.
    written: u64,
    /// True while another pod holds our name.
    superseded: bool,
}

/// Where our key is, according to a View.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Own {
    /// Ours, or the View is older than our last write.
    Stands,
    /// Nobody's, or another pod's.
    Missing,
}

impl Registrar {
    pub(super) fn new(
        context: Context,
        name: String,
        registration: Registration,
        registered: watch::Sender<bool>,
        farewell: CancellationToken,
    ) -> Self {
        let (lease, written, superseded) = (None, 0, false);
        Self { context, name, registration, registered, farewell, lease, written, superseded }
    }

    /// Runs until the farewell is said.
    pub(super) async fn run(mut self) {
        let farewell = self.farewell.clone();
        tokio::select! {
            biased;
            () = farewell.cancelled() => {}
            () = self.keep() => {}
        }
        if let Err(error) = self.say_farewell().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "farewell failed, the lease will run out");
        }
        self.registered.send_replace(false);
    }

    /// Keeps the registration for ever.
    async fn keep(&mut self) {
        let mut backoff = self.context.backoff();
        loop {
            let Err(error) = self.session(&mut backoff).await;
            let delay = backoff.next_delay(self.context.random.ratio());
            report(&error, delay);
            tokio::time::sleep(delay).await;
        }
    }

    /// One connection: a beat at once, then one whenever it is due or the View says so.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<Infallible, Error> {
        let session = self.context.registry.connect().await?;
        let mut views = self.context.board.views();
        loop {
            self.beat(session.as_ref()).await?;
            backoff.reset();
            let missing = views.wait_for(|view| self.own(view) == Own::Missing);
            let woken = tokio::time::timeout(beat(self.context.lease_ttl), missing).await.is_ok();
            if woken {
                // What the View says is not repaired faster than this.
                let delay = backoff.next_delay(self.context.random.ratio());
                tokio::time::sleep(delay).await;
            }
        }
    }

    /// Makes sure that the lease stands and our key hangs on it.
    async fn beat(&mut self, session: &dyn Session) -> Result<(), Error> {
        if let Some(lease) = self.lease
            && !session.keep_alive(lease).await?
        {
            tracing::warn!("lease lost, registering again");
            self.lease = None;
            self.registered.send_replace(false);
        }
        let stands = self.lease.is_some()
            && self.written > 0
            && !self.superseded
            && self.own(&self.context.board.view()) == Own::Stands;
        if stands { Ok(()) } else { self.claim(session).await }
    }

    async fn claim(&mut self, session: &dyn Session) -> Result<(), Error> {
        let key = self.context.keys.member(&self.name);
        for _ in 0..CONTENTION_TRIES {
            let held = session.get(&key).await?;
            if held.as_ref().is_some_and(|held| self.is_successor(held)) {
                return self.step_back(session).await;
            }
            let lease = match self.lease {
                Some(lease) => lease,
                None => *self.lease.insert(session.grant(self.context.lease_ttl.as_secs()).await?),
            };
            let value = self.value(self.registration.op);
            let expected = held.map_or(0, |held| held.revision);
            if let Some(revision) = session.put_if(&key, value, lease, expected).await? {
                tracing::info!(revision, "registered");
                (self.written, self.superseded) = (revision, false);
                self.registered.send_replace(true);
                return Ok(());
            }
        }
        Err(Error::Contended)
    }

    /// Another pod holds our name, and we had it before: it came after us.
    fn is_successor(&self, held: &Held) -> bool {
        let uid = serde_json::from_slice::<Registration>(&held.value)
            .map(|registration| registration.metadata.uid);
        // A value that nobody can read is nobody's.
        self.written > 0 && uid.is_ok_and(|uid| uid != self.registration.metadata.uid)
    }

    async fn step_back(&mut self, session: &dyn Session) -> Result<(), Error> {
        if !self.superseded {
            tracing::error!(name = self.name, "another pod registered under our name");
        }
        self.superseded = true;
        self.registered.send_replace(false);
        if let Some(lease) = self.lease.take() {
            session.revoke(lease).await?;
        }
        Ok(())
    }

    async fn say_farewell(&mut self) -> Result<(), Error> {
        let Some(lease) = self.lease.take() else { return Ok(()) };
        let session = self.context.registry.connect().await?;
        let key = self.context.keys.member(&self.name);
        // Only over our own writing: whoever wrote after us keeps the key.
        session.put_if(&key, self.value(LEAVING), lease, self.written).await?;
        session.revoke(lease).await?;
        tracing::info!("left the cluster");
        Ok(())
    }

    fn value(&self, op: u8) -> Vec<u8> {
        let registration = Registration { op, ..self.registration.clone() };
        serde_json::to_vec(&registration).expect("strings and numbers only")
    }

    fn own(&self, view: &Arc<View>) -> Own {
        own(view, &self.name, &self.registration.metadata.uid, self.written, self.superseded)
    }
}

fn report(error: &Error, delay: Duration) {
    let error = error as &dyn std::error::Error;
    tracing::warn!(error, retry_ms = delay.as_millis(), "registration not renewed");
}

fn own(view: &View, name: &str, uid: &str, written: u64, superseded: bool) -> Own {
    if view.seen() < written {
        return Own::Stands;
    }
    let standing = view.members.get(name).filter(|_| !view.departed.contains_key(name));
    match standing {
        Some(registration) if registration.metadata.uid == uid => Own::Stands,
        // While we are out on purpose, only a free name is news.
        Some(_) if superseded => Own::Stands,
        _ => Own::Missing,
    }
}
