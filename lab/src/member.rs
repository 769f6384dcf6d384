//! One place for a member: the process that runs there now, and how the next one starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use larder_node::app::{Addresses, Options, PortlessMember};
use larder_node::config::{Config, Identity, Limits};
use larder_node::membership::Membership;
use larder_node::origin::{self, Loader as OriginLoader};
use larder_proto::config::{
    ClusterRef, Listen, MemberMode, Mode, NodeConfig, Placement, RegistryConfig, RingHash,
};
use larder_proto::contract::Origin as OriginContract;
use larder_runtime::clock::with_unix_time_us;
use larder_runtime::process::Process;
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::fault::Slot;
use crate::judge::Loader;
use crate::network::{Endpoint, MemberTransport, Network};
use crate::origin::Origin;
use crate::plan::Plan;
use crate::registry::{Client, RegistryLink};

/// Memory of one member. Nothing is evicted in these worlds.
const CAPACITY_BYTES: u64 = 4 << 20;
/// Requests of one member that may wait.
pub(crate) const MAX_WAITING: usize = 1_000;
/// Time-out of a request without a deadline, which is also the limit of a forwarded load.
const DEFAULT_TIMEOUT_MS: u64 = 4_000;

/// When a world begins, by clocks that are right, as Unix time in ms.
const BEGAN_UNIX_MS: u64 = 1_700_000_000_000;

/// What every process of a world is started with.
pub(crate) struct Surroundings {
    pub(crate) plan: Plan,
    pub(crate) random: Random,
    pub(crate) network: Arc<Network>,
    pub(crate) origin: Arc<Origin>,
}

/// A running process.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) id: Loader,
    pub(crate) uid: String,
    pub(crate) address: String,
    pub(crate) process: Process,
    pub(crate) tasks: Tasks,
    pub(crate) member: Arc<PortlessMember>,
    /// Taken when the member leaves.
    pub(crate) membership: Arc<Mutex<Option<Membership>>>,
}

pub(crate) fn name(slot: Slot) -> String {
    format!("m{slot}")
}

/// What origin number `origin` of a group is called in its contract.
pub(crate) fn origin_url(group: usize, origin: u64) -> String {
    format!("http://origin/{group}/{origin}/{{key}}")
}

/// Loads from the origins that [`origin_url`] names.
fn loaders(origin: Arc<Origin>, id: Loader) -> impl Fn(&OriginContract) -> Arc<dyn OriginLoader> {
    move |contract| {
        let OriginContract::Http(http) = contract else { panic!("no origin of this world") };
        let mut numbers = http.url_template.split('/').filter_map(|part| part.parse::<u64>().ok());
        let (Some(group), Some(number)) = (numbers.next(), numbers.next()) else {
            panic!("no origin of this world")
        };
        let (origin, group) = (origin.clone(), usize::try_from(group).expect("few groups"));
        Arc::new(origin::from_fn(move |key| origin.clone().load(id, (group, number), key)))
    }
}

/// Starts process number `incarnation` of a slot, in pod number `pod`.
pub(crate) fn start(
    around: &Surroundings,
    link: &Arc<RegistryLink>,
    id: Loader,
    pod: u32,
    now_ms: u64,
) -> Running {
    let Loader { slot, .. } = id;
    let uid = format!("m{slot}-pod{pod}");
    let host = format!("m{slot}.pod{pod}");
    let config = config(&around.plan, slot, &uid, &host);
    let process = Process::start();
    let tasks = Tasks::of_process(Handle::current(), process.clone());
    let options = Options::default()
        .random(Random::seeded(around.random.next()))
        .transport(Arc::new(MemberTransport { slot, network: around.network.clone() }))
        .registry(Arc::new(Client(link.clone())))
        .build_origin(loaders(around.origin.clone(), id));
    let port = |number| SocketAddr::from((Ipv4Addr::UNSPECIFIED, number));
    let addresses =
        Addresses { grpc: port(1), peer: Some(port(2)), http: Some(port(3)), admin: port(4) };
    let skew_ms = around.plan.clock_skew_ms[slot];
    let unix_ms = BEGAN_UNIX_MS.strict_add(now_ms).strict_add_signed(skew_ms);
    let started = with_unix_time_us(unix_ms * 1_000, || {
        PortlessMember::start(&config, options, addresses, &tasks)
    });
    let mut member = started.expect("a member's configuration");
    let membership = Arc::new(Mutex::new(member.membership.take()));
    let address = config.advertised(2);
    let service = member.peer_service.clone();
    around.network.serve(&address, Endpoint { slot, process: process.clone(), service });
    Running { id, uid, address, process, tasks, member: Arc::new(member), membership }
}

fn config(plan: &Plan, slot: Slot, uid: &str, host: &str) -> Config {
    let mode = Mode::Member(MemberMode {
        registry: RegistryConfig {
            endpoints: vec!["http://registry:2379".into()],
            tls_directory: None,
            lease_ttl_seconds: plan.lease_s,
        },
        placement: plan.virtual_nodes.map_or(Placement::Rendezvous {}, |virtual_nodes| {
            Placement::Ring { virtual_nodes, hash: RingHash::Xxh3 }
        }),
        capacity_bytes: CAPACITY_BYTES,
        memory_bytes: None,
        replica_percent: 12,
        hot_percent: 25,
        hot_ttl_ms: 60_000,
        snapshot: None,
    });
    let limits = Limits {
        default_timeout_ms: DEFAULT_TIMEOUT_MS,
        max_waiting_requests: MAX_WAITING,
        max_value_bytes: 64 << 10,
        workers: 1,
        ..Limits::default()
    };
    let file = NodeConfig {
        cluster: ClusterRef { namespace: "lab".into(), name: "world".into() },
        mode,
        listen: Listen::default(),
        limits,
        credentials_directory: String::new(),
        allowed_targets: Vec::new(),
        tls: None,
        drain_seconds: 4,
    };
    let identity =
        Identity { name: name(slot), uid: uid.into(), advertise_host: host.into(), zone: None };
    Config::new(file, identity).expect("a valid configuration")
}
