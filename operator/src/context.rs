//! Owns what every reconcile shares: the client, etcd, events, metrics, and how long to wait after
//! a failure. It knows no resource's rules.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};
use larder_backoff::{Backoff, BackoffPolicy};
use larder_runtime::random::Random;
use parking_lot::Mutex;

use crate::cluster::build::labels::MANAGER;
use crate::cluster::validate::Images;
use crate::etcd::EtcdAdmin;
use crate::metrics::{Kind, Metrics};

/// First and longest wait after failures of one object.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// A settled object is looked at again after so long, in case an event was lost or somebody changed
/// etcd behind our back.
const RESYNC: Duration = Duration::from_secs(30);

/// Shared by all reconciles.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// Etcd.
    pub admin: Arc<dyn EtcdAdmin>,
    /// Counters.
    pub metrics: Metrics,
    /// Images for those who name none.
    pub images: Images,
    random: Random,
    policy: BackoffPolicy,
    recorder: Recorder,
    failures: Mutex<HashMap<Key, Backoff>>,
}

type Key = (&'static str, String, String);

impl Context {
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
                .expect("constants that agree"),
            failures: Mutex::default(),
            client,
            admin,
            metrics,
            images,
            random,
        }
    }

    /// How long to wait before the next try of an object that failed.
    pub fn failed(&self, kind: Kind, namespace: &str, name: &str) -> Duration {
        let key = (kind.name(), namespace.to_owned(), name.to_owned());
        let mut failures = self.failures.lock();
        failures
            .entry(key)
            .or_insert_with(|| Backoff::new(self.policy))
            .next_delay(self.random.ratio())
    }

    /// Forgets the failures of an object.
    pub fn succeeded(&self, kind: Kind, namespace: &str, name: &str) {
        let key = (kind.name(), namespace.to_owned(), name.to_owned());
        self.failures.lock().remove(&key);
    }

    /// The time until a settled object is looked at again, different each time so that objects do
    /// not march in step.
    #[must_use]
    pub fn resync(&self) -> Duration {
        RESYNC.mul_f64(1.0 - 0.2 * self.random.ratio())
    }

    /// Records an event on `object`; repeats within minutes are counted on the first. An event that
    /// cannot be written is logged, never an error.
    pub async fn tell<K>(&self, object: &K, type_: EventType, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let mut note = note.to_owned();
        // The API refuses more than a kilobyte.
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
            tracing::warn!(%error, reason, object = object.name_any(), "event not recorded");
        }
    }
}
