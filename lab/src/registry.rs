//! The registry as one member reaches it: etcd's semantics from `larder_registry`, a network that
//! can be cut or late, and the time limits of the real client.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use larder_node::membership::{
    Error, Feed, KeyChange, Listing, RegistryClient, Session, StoredValue, WatchMessage,
};
use larder_registry::{LocalRegistry, LocalWatch, WatchEvent};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// One way to the registry, ms.
const DELAY: Duration = Duration::from_millis(1);

/// The way from one member to the registry, kept over restarts of the member.
pub(crate) struct RegistryLink {
    registry: LocalRegistry,
    cut: watch::Sender<bool>,
    lag_ms: Mutex<u64>,
    /// The last granted lease.
    lease: Mutex<Option<i64>>,
    call_timeout: Duration,
}

impl RegistryLink {
    pub(crate) fn new(registry: LocalRegistry, call_timeout: Duration) -> Arc<Self> {
        let (cut, lag_ms, lease) = (watch::Sender::new(false), Mutex::new(0), Mutex::default());
        Arc::new(Self { registry, cut, lag_ms, lease, call_timeout })
    }

    pub(crate) fn set_cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    pub(crate) fn set_lag(&self, ms: u64) {
        *self.lag_ms.lock() = ms;
    }

    pub(crate) fn revoke_lease(&self) {
        if let Some(lease) = *self.lease.lock() {
            self.registry.revoke(lease);
        }
    }

    async fn passage(&self) {
        // `self` owns the sender, so the channel cannot close.
        _ = self.cut.subscribe().wait_for(|cut| !cut).await;
        sleep(DELAY).await;
    }

    async fn call<T>(
        &self,
        what: &'static str,
        call: impl FnOnce(&LocalRegistry) -> T,
    ) -> Result<T, Error> {
        let all = async {
            self.passage().await;
            self.registry.wait_until_resumed().await;
            let result = call(&self.registry);
            self.passage().await;
            result
        };
        timeout(self.call_timeout, all).await.map_err(|_| Error::Silent { what })
    }
}

/// A client of the registry for one process.
pub(crate) struct Client(pub(crate) Arc<RegistryLink>);

struct SimulatedSession(Arc<RegistryLink>);

struct SimulatedFeed {
    link: Arc<RegistryLink>,
    watch: LocalWatch,
    /// A message on its way, and when it arrives.
    arriving: Option<(Instant, WatchEvent)>,
}

impl RegistryClient for Client {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Session>, Error>> {
        async move {
            self.0.call("connect", |_| ()).await?;
            Ok(Box::new(SimulatedSession(self.0.clone())) as Box<dyn Session>)
        }
        .boxed()
    }
}

impl Session for SimulatedSession {
    fn grant(&self, ttl_s: u64) -> BoxFuture<'_, Result<i64, Error>> {
        async move {
            let lease = self.0.call("grant a lease", |registry| registry.grant(ttl_s)).await?;
            *self.0.lease.lock() = Some(lease);
            Ok(lease)
        }
        .boxed()
    }

    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<bool, Error>> {
        self.0.call("keep the lease alive", move |registry| registry.keep_alive(lease)).boxed()
    }

    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<(), Error>> {
        self.0.call("revoke the lease", move |registry| registry.revoke(lease)).boxed()
    }

    fn get<'s>(&'s self, key: &'s str) -> BoxFuture<'s, Result<Option<StoredValue>, Error>> {
        async move {
            let found = self.0.call("read the member's key", |registry| registry.get(key)).await?;
            Ok(found.map(|(value, revision)| StoredValue { value, revision }))
        }
        .boxed()
    }

    fn put_if<'s>(
        &'s self,
        key: &'s str,
        value: Vec<u8>,
        lease: i64,
        expected: u64,
    ) -> BoxFuture<'s, Result<Option<u64>, Error>> {
        async move {
            let what = "write the member's key";
            let put = |registry: &LocalRegistry| registry.put_if(key, value, lease, expected);
            self.0.call(what, put).await?.map_err(|text| Error::Call { what, source: text.into() })
        }
        .boxed()
    }

    fn list<'s>(&'s self, prefix: &'s str) -> BoxFuture<'s, Result<Listing, Error>> {
        async move {
            let listed = self.0.call("list the cluster", |registry| registry.list(prefix)).await?;
            let (cluster, revision, entries) = (listed.cluster, listed.revision, listed.entries);
            Ok(Listing { cluster, revision, entries })
        }
        .boxed()
    }

    fn watch<'s>(
        &'s self,
        prefix: &'s str,
        revision: u64,
    ) -> BoxFuture<'s, Result<Box<dyn Feed>, Error>> {
        async move {
            let watch = self.0.call("begin the watch", |r| r.watch(prefix, revision)).await?;
            let feed = SimulatedFeed { link: self.0.clone(), watch, arriving: None };
            Ok(Box::new(feed) as Box<dyn Feed>)
        }
        .boxed()
    }
}

impl Feed for SimulatedFeed {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchMessage, Error>> {
        async move {
            if self.arriving.is_none() {
                let event = self.watch.next().await.ok_or(Error::Ended)?;
                let lag = Duration::from_millis(*self.link.lag_ms.lock());
                self.arriving = Some((Instant::now() + DELAY + lag, event));
            }
            if let Some((at, _)) = &self.arriving {
                sleep_until(*at).await;
                self.link.passage().await;
            }
            let (_, event) = self.arriving.take().expect("set above");
            Ok(message(event))
        }
        .boxed()
    }

    fn request_progress(&mut self) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            // A message into a cut network is accepted and lost.
            if !*self.link.cut.borrow() {
                self.watch.request_progress();
            }
            Ok(())
        }
        .boxed()
    }
}

fn message(event: WatchEvent) -> WatchMessage {
    match event {
        WatchEvent::Began { cluster, revision } => WatchMessage::Began { cluster, revision },
        WatchEvent::Progress(revision) => WatchMessage::Progress { revision },
        WatchEvent::Compacted => WatchMessage::Compacted,
        WatchEvent::Changed(changes) => WatchMessage::Changes(
            changes
                .into_iter()
                .map(|(key, value, revision)| KeyChange { key, value, revision })
                .collect(),
        ),
    }
}
