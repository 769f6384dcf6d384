//! What all tests of a run share: the operator, its namespaces, a database, a CacheCluster.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use larder_e2e::cluster::{Cluster, repository_file};
use larder_e2e::postgres::Postgres;

use crate::gate::{Gate, Pass};
use crate::helm::{self, SYSTEM};
use crate::shop::Shop;

/// The namespaces that the operator watches, without the run's suffix.
const WATCHED: [&str; 11] = [
    "shop",
    "outage",
    "twodisks",
    "alldisks",
    "external",
    "lifecycle",
    "killed",
    "scaled",
    "idle",
    "mistakes",
    "warmth",
];
/// Marks the namespaces of the tests; its value is the run's suffix.
const LABEL: &str = "larder.dev/e2e-run";

static GATE: Gate = Gate::new();

/// What the tests of one run share. Whatever takes time is made when a test first needs it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    /// Suffix of the names of this run's namespaces.
    run: String,
    postgres: OnceLock<Postgres>,
    shop: OnceLock<Option<Shop>>,
}

/// The world, for as long as a test runs.
#[derive(Debug)]
pub(crate) struct Access {
    world: &'static World,
    _pass: Pass,
}

impl Deref for Access {
    type Target = World;

    fn deref(&self) -> &World {
        self.world
    }
}

/// For a test during which no other test may run.
pub(crate) fn alone() -> Access {
    alone_after(|_| ()).0
}

/// As [`alone`], after a preparation that may overlap with other tests.
pub(crate) fn alone_after<T>(prepare: impl FnOnce(&'static World) -> T) -> (Access, T) {
    let announced = GATE.announce();
    let world = world();
    let prepared = prepare(world);
    (Access { world, _pass: announced.enter() }, prepared)
}

/// For a test that runs at the same time as others.
pub(crate) fn together() -> Access {
    together_after(|_| ()).0
}

/// As [`together`], after a preparation that may overlap with tests that run alone.
pub(crate) fn together_after<T>(prepare: impl FnOnce(&'static World) -> T) -> (Access, T) {
    // This takes seconds. By then every test that is to run alone has announced itself.
    let world = world();
    let prepared = prepare(world);
    (Access { world, _pass: GATE.together() }, prepared)
}

/// Prepared once. When that fails, the other tests fail at once.
fn world() -> &'static World {
    static WORLD: OnceLock<Option<World>> = OnceLock::new();
    let world = WORLD.get_or_init(|| catch_unwind(World::prepare).ok());
    world.as_ref().expect("the operator was installed; see the first failure")
}

impl Access {
    /// Lets other tests run from now on.
    pub(crate) fn leave(self) -> &'static World {
        self.world
    }
}

impl World {
    fn prepare() -> Self {
        let run = format!("{:08x}", RandomState::new().build_hasher().finish() >> 32);
        let (postgres, shop) = (OnceLock::new(), OnceLock::new());
        let world = Self { cluster: Cluster::from_environment(), run, postgres, shop };
        world.cluster.create_namespaces(&world.watched(), Some((LABEL, &world.run)));
        world.cluster.create_namespaces(&[SYSTEM.into()], None);
        helm::install_operator(&world.cluster, &[&world.watch_namespaces()]);
        // The operator no longer watches the namespaces of earlier runs.
        let earlier = format!("{LABEL},{LABEL}!={}", world.run);
        world.cluster.must(&["delete", "namespaces", "--wait=false", "--selector", &earlier]);
        world
    }

    fn watched(&self) -> Vec<String> {
        WATCHED.iter().map(|name| self.name(name)).collect()
    }

    fn name(&self, purpose: &str) -> String {
        format!("{purpose}-{}", self.run)
    }

    /// One of this run's namespaces that the operator watches.
    ///
    /// # Panics
    /// When `purpose` is not in [`WATCHED`].
    pub(crate) fn namespace(&self, purpose: &str) -> String {
        assert!(WATCHED.contains(&purpose), "{purpose} is not watched");
        self.name(purpose)
    }

    /// Creates a namespace of this run that the operator does not watch.
    pub(crate) fn unwatched_namespace(&self, purpose: &str) -> String {
        let name = self.name(purpose);
        self.cluster.create_namespaces(std::slice::from_ref(&name), Some((LABEL, &self.run)));
        name
    }

    /// The operator's `watchNamespaces`, as `--set` takes it.
    pub(crate) fn watch_namespaces(&self) -> String {
        format!("watchNamespaces={{{}}}", self.watched().join(","))
    }

    /// The database of the samples.
    pub(crate) fn postgres(&self) -> &Postgres {
        self.postgres.get_or_init(|| Postgres::start(self.cluster.host()))
    }

    /// Creates the Secret that the sample's CacheGroup names.
    pub(crate) fn offer_database(&self, namespace: &str) {
        let url = self.postgres().url();
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: students-db}}\n\
             stringData: {{url: \"{url}\"}}\n"
        );
        self.cluster.apply(namespace, &secret).expect("a Secret can be created");
    }

    /// The CacheCluster that several tests read. They leave it as they found it.
    pub(crate) fn shop(&self) -> &Shop {
        let create = AssertUnwindSafe(|| Shop::create(self, "shop", &sample()));
        let shop = self.shop.get_or_init(|| catch_unwind(create).ok());
        shop.as_ref().expect("the CacheCluster was created; see the first failure")
    }
}

/// The sample that users are given.
pub(crate) fn sample() -> String {
    repository_file("manifests/examples/shop.yaml")
}

/// The sample's CacheGroup alone, under another name.
pub(crate) fn sample_group(name: &str) -> String {
    let sample = sample();
    let (_, group) = sample.split_once("\n---\n").expect("the sample has two documents");
    let renamed =
        group.replace("metadata:\n  name: students\n", &format!("metadata:\n  name: {name}\n"));
    assert_ne!(group, renamed, "the sample's group is called students");
    renamed
}

/// The sample with an etcd of one member: enough for tests that are not about etcd.
pub(crate) fn small_sample() -> String {
    let (sample, three) = (sample(), "managed:\n      members: 3");
    assert!(sample.contains(three), "{sample}");
    sample.replace(three, "managed:\n      members: 1")
}

/// The sample with an etcd whose data outlives its pods.
pub(crate) fn durable_sample() -> String {
    let (sample, memory) = (sample(), "managed:\n      members: 3");
    assert!(sample.contains(memory), "{sample}");
    sample.replace(memory, &format!("{memory}\n      storage: {{size: 256Mi}}"))
}
