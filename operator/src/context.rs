//! Owns what all reconciles share: the client, access to etcd, events, metrics, and the pauses
//! after failures. It knows no resource's rules.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use larder_backoff::{Backoff, BackoffPolicy};
use larder_runtime::random::Random;
use parking_lot::Mutex;

use crate::cluster::labels::MANAGER;
use crate::cluster::validate::Images;
use crate::etcd::EtcdAdmin;
use crate::metrics::{Kind, Metrics};

/// First and longest pause after failures of one object.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Longest time between reconciles of a settled object, in case an event was lost or somebody
/// changed etcd.
const RESYNC: Duration = Duration::from_secs(30);

/// What all reconciles share.
pub struct ReconcileContext {
    /// Client of the API server.
    pub client: Client,
    /// Access to etcd.
    pub admin: Arc<dyn EtcdAdmin>,
    /// The operator's metrics.
    pub metrics: Metrics,
    /// Default images of CacheClusters.
    pub images: Images,
    random: Random,
    policy: BackoffPolicy,
    recorder: Recorder,
    failures: Mutex<HashMap<Key, Backoff>>,
}

type Key = (&'static str, String, String);

impl ReconcileContext {
    /// A context whose events are reported by `instance`.
    #[must_use]
    pub fn new(
        client: Client,
        admin: Arc<dyn EtcdAdmin>,
        metrics: Metrics,
        images: Images,
        random: Random,
        instance: String,
    ) -> Self {
        let reporter = Reporter { controller: MANAGER.into(), instance: Some(instance) };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            policy: BackoffPolicy::new(FIRST_DELAY, 2, LONGEST_DELAY, 25)
                .expect("the constants are a valid policy"),
            failures: Mutex::default(),
            client,
            admin,
            metrics,
            images,
            random,
        }
    }

    /// Counts a failure of an object and returns the pause before the next try.
    pub fn failed(&self, kind: Kind, namespace: &str, name: &str) -> Duration {
        let key = (kind.name(), namespace.to_owned(), name.to_owned());
        let mut failures = self.failures.lock();
        failures
            .entry(key)
            .or_insert_with(|| Backoff::new(self.policy))
            .next_delay(self.random.ratio())
    }

    /// Resets the failures of an object.
    pub fn succeeded(&self, kind: Kind, namespace: &str, name: &str) {
        let key = (kind.name(), namespace.to_owned(), name.to_owned());
        self.failures.lock().remove(&key);
    }

    /// The pause until the next reconcile of a settled object, different each time so that resyncs
    /// do not synchronise.
    #[must_use]
    pub fn resync(&self) -> Duration {
        RESYNC.mul_f64(1.0 - 0.2 * self.random.ratio())
    }

    /// Records an event on `object`. Repeats within minutes are counted on the first. An event that
    /// cannot be written is logged and is not an error.
    pub async fn record_event<K>(&self, object: &K, type_: EventType, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let mut note = note.to_owned();
        // The API server refuses notes of more than 1024 bytes.
        if note.len() > 1_000 {
            let cut = (0..=1_000).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
            note.truncate(cut);
        }
        let event = Event {
            type_,
            reason: reason.into(),
            note: Some(note),
            action: "Reconcile".into(),
            secondary: None,
        };
        let reference: ObjectReference = object.object_ref(&());
        if let Err(error) = self.recorder.publish(&event, &reference).await {
            tracing::warn!(%error, reason, object = object.name_any(), "could not record an event");
        }
    }
}
