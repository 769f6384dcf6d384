//! The node's configuration, typed and validated once. It comes from the file that the operator
//! renders ([`NodeConfig`]) and from what differs between the pods of one StatefulSet
//! ([`Identity`]).
//!
//! This module binds no port and opens no connection. Start at [`Config::read`] or
//! [`Config::alone`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use larder_proto::config as file;
pub use larder_proto::config::{ClusterRef, Limits, NodeConfig, Placement, RingHash};
use rustls::pki_types::ServerName;

/// Below this, bookkeeping would take most of the memory.
const MIN_CAPACITY_BYTES: u64 = 1024 * 1024;
/// gRPC's common receive limit, minus room for framing and the explanation.
const MAX_VALUE_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;
/// Keys share messages and stores with their values.
const MAX_KEY_BYTES: usize = 32 * 1024;
/// A higher number of serving threads is taken for a mistake.
const MAX_WORKERS: usize = 1024;

/// Everything that a node needs to start. Valid by construction.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Identifies this node among the others.
    pub identity: Identity,
    /// The cluster that it belongs to or reads from.
    pub cluster: ClusterRef,
    /// Member or sidecar.
    pub mode: Mode,
    /// Addresses to listen on.
    pub listen: Listen,
    /// Requests beyond these limits are refused before any work starts.
    pub limits: Limits,
    /// Folder with one file per credential.
    pub credentials_directory: PathBuf,
    /// Networks that `http` origins may connect to although they are loopback, link-local or the API
    /// server.
    pub allowed_targets: Vec<IpNet>,
    /// Certificates; without them the node speaks plain text.
    pub tls: Option<TlsSettings>,
    /// Time for requests in flight after a stop signal.
    pub drain_grace: Duration,
}

/// Certificates of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Folder with `ca.crt`, `tls.crt` and `tls.key`.
    pub directory: PathBuf,
    /// Name in the certificate of every member.
    pub server_name: ServerName<'static>,
}

/// What differs between the pods of one StatefulSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the member: its pod's name, the same after a restart. Placement depends on this
    /// alone.
    pub name: String,
    /// The pod's uid, which distinguishes a successor from a predecessor of the same name.
    pub uid: String,
    /// Host or address at which the others reach this node.
    pub advertise_host: String,
    /// Topology zone, if known.
    pub zone: Option<String>,
}

/// Member or sidecar.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// Owns keys, registers, serves peers.
    Member(MemberConfig),
    /// Owns no keys; has a near cache and calls the members.
    Sidecar(file::SidecarMode),
}

/// Settings of a member.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberConfig {
    /// How it registers; `None` for a member that is its whole cluster.
    pub registry: Option<RegistryConfig>,
    /// How keys are placed on members.
    pub placement: Placement,
    /// Memory for its own entries, over all groups.
    pub main_bytes: u64,
    /// Memory for copies of other members' entries.
    pub hot_bytes: u64,
    /// Longest TTL of such a copy.
    pub hot_ttl_ms: u64,
    /// Part of the capacity that `hot_bytes` is, percent.
    pub hot_percent: u32,
    /// The memory limit for which the capacity was chosen; `None` if it follows no limit.
    pub memory_bytes: Option<u64>,
    /// Part of `main_bytes` that replicas of other members' hottest entries may fill, percent.
    pub replica_percent: u8,
    /// How the hottest entries are kept over a restart; `None` if they are not.
    pub snapshot: Option<SnapshotConfig>,
}

/// How a member saves its hottest entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// Folder with one folder per member.
    pub directory: PathBuf,
    /// Time between two snapshots while entries change.
    pub interval: Duration,
    /// Maximum size of a snapshot.
    pub max_bytes: u64,
    /// Maximum rate at which a running member writes.
    pub bytes_per_second: u64,
}

/// How a member reaches etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryConfig {
    /// URLs, one or more.
    pub endpoints: Vec<String>,
    /// Folder with certificates.
    pub tls_directory: Option<PathBuf>,
    /// TTL of the member's lease.
    pub lease_ttl: Duration,
}

/// Addresses to listen on. Port 0 takes a free port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Cache, Admin, groupcachepb, health, reflection.
    pub grpc: SocketAddr,
    /// The peer protocol.
    pub peer: SocketAddr,
    /// The gateway and groupcache's HTTP peers.
    pub http: SocketAddr,
    /// Metrics and probes.
    pub admin: SocketAddr,
}

/// An invalid configuration. The text is one line and names the file or the field.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not JSON of the expected form.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: serde_json::Error,
    },
    /// A field has an invalid value.
    #[error("{field}: {problem}")]
    Field {
        /// Path of the field in the file, or the flag.
        field: &'static str,
        /// What is wrong, and what is valid.
        problem: String,
    },
}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// One line that names the file or the field.
    pub fn read(path: &Path, identity: Identity) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let file = serde_json::from_str(&text)
            .map_err(|source| Error::Parse { path: path.to_owned(), source })?;
        Self::new(file, identity)
    }

    /// Validates the content of a file.
    ///
    /// # Errors
    /// The first invalid field.
    pub fn new(file: NodeConfig, identity: Identity) -> Result<Self, Error> {
        // A sidecar does not register, so it needs no name.
        if matches!(file.mode, file::Mode::Member(_)) {
            check_identity(&identity)?;
        }
        check_limits(&file.limits)?;
        for (field, name) in
            [("cluster.namespace", &file.cluster.namespace), ("cluster.name", &file.cluster.name)]
        {
            require(field, !name.is_empty() && !name.contains('/'), || {
                format!("{name:?} is not a name")
            })?;
        }
        let mode = match file.mode {
            file::Mode::Member(member) => Mode::Member(check_member(member)?),
            file::Mode::Sidecar(sidecar) => {
                check_sidecar(&sidecar)?;
                Mode::Sidecar(sidecar)
            }
        };
        Ok(Self {
            identity,
            cluster: file.cluster,
            mode,
            listen: Listen {
                grpc: address("listen.grpc", &file.listen.grpc)?,
                peer: address("listen.peer", &file.listen.peer)?,
                http: address("listen.http", &file.listen.http)?,
                admin: address("listen.admin", &file.listen.admin)?,
            },
            limits: file.limits,
            credentials_directory: file.credentials_directory.into(),
            allowed_targets: check_targets(&file.allowed_targets)?,
            tls: file.tls.map(check_tls).transpose()?,
            drain_grace: Duration::from_secs(file.drain_seconds),
        })
    }

    /// A member without registry and peers, on free loopback ports. For programs that embed a
    /// cache, and for tests.
    #[must_use]
    pub fn alone(name: &str, capacity_bytes: u64) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            identity: Identity {
                name: name.to_owned(),
                uid: name.to_owned(),
                advertise_host: Ipv4Addr::LOCALHOST.to_string(),
                zone: None,
            },
            cluster: ClusterRef { namespace: "local".into(), name: name.to_owned() },
            mode: Mode::Member(MemberConfig {
                registry: None,
                placement: Placement::Rendezvous {},
                main_bytes: capacity_bytes,
                hot_bytes: 0,
                hot_ttl_ms: 0,
                hot_percent: 0,
                memory_bytes: None,
                replica_percent: 0,
                snapshot: None,
            }),
            listen: Listen { grpc: free, peer: free, http: free, admin: free },
            limits: Limits::default(),
            credentials_directory: PathBuf::new(),
            allowed_targets: Vec::new(),
            tls: None,
            drain_grace: Duration::from_secs(5),
        }
    }

    /// Number of serving threads: as configured, or one per core.
    #[must_use]
    pub fn workers(&self) -> usize {
        match self.limits.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            workers => workers,
        }
    }

    /// `host:port` at which the others reach a port of this node.
    #[must_use]
    pub fn advertised(&self, port: u16) -> String {
        match self.identity.advertise_host.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, port).to_string(),
            Err(_) => format!("{}:{port}", self.identity.advertise_host),
        }
    }
}

impl MemberConfig {
    /// The member's weight in placement: its capacity in MiB.
    #[must_use]
    pub fn weight(&self) -> u32 {
        let mebibytes = self.main_bytes.saturating_add(self.hot_bytes) / (1024 * 1024);
        u32::try_from(mebibytes).unwrap_or(u32::MAX).max(1)
    }

    /// The settings in a container whose memory limit is `limit_bytes`.
    pub(crate) fn resized(&self, limit_bytes: u64) -> Self {
        let Some(memory_bytes) = self.memory_bytes else { return self.clone() };
        let before = self.main_bytes + self.hot_bytes;
        let capacity = (before + file::capacity_bytes(limit_bytes))
            .saturating_sub(file::capacity_bytes(memory_bytes))
            .max(MIN_CAPACITY_BYTES);
        let hot_bytes = hot_bytes(capacity, self.hot_percent);
        Self {
            main_bytes: capacity - hot_bytes,
            hot_bytes,
            memory_bytes: Some(limit_bytes),
            ..self.clone()
        }
    }
}

fn hot_bytes(capacity_bytes: u64, percent: u32) -> u64 {
    capacity_bytes / 100 * u64::from(percent)
}

fn check_targets(networks: &[String]) -> Result<Vec<IpNet>, Error> {
    let parse = |network: &String| {
        let parsed = network.parse().or_else(|_| network.parse::<IpAddr>().map(IpNet::from));
        parsed.map_err(|_| Error::Field {
            field: "allowedTargets",
            problem: format!("{network:?} is neither an address nor a network such as 10.0.0.0/8"),
        })
    };
    networks.iter().map(parse).collect()
}

fn check_identity(identity: &Identity) -> Result<(), Error> {
    let name = &identity.name;
    require("--name", !name.is_empty() && !name.contains('/'), || {
        format!("{name:?} is not a name; set --name or LARDER_MEMBER_NAME")
    })?;
    require("--uid", !identity.uid.is_empty(), || "set --uid or LARDER_POD_UID".into())?;
    require("--advertise-host", !identity.advertise_host.is_empty(), || {
        "set --advertise-host or LARDER_POD_IP".into()
    })
}

fn check_member(member: file::MemberMode) -> Result<MemberConfig, Error> {
    let registry = member.registry;
    require("mode.member.registry.endpoints", !registry.endpoints.is_empty(), || {
        "name at least one URL".into()
    })?;
    for endpoint in &registry.endpoints {
        let url = endpoint.starts_with("http://") || endpoint.starts_with("https://");
        require("mode.member.registry.endpoints", url, || {
            format!("{endpoint:?} must begin with http:// or https://")
        })?;
    }
    // etcd extends shorter leases to its election timeout, about a second.
    let ttl = registry.lease_ttl_seconds;
    require("mode.member.registry.leaseTtlSeconds", (2..=3600).contains(&ttl), || {
        format!("{ttl} must be 2 to 3600")
    })?;
    let capacity = member.capacity_bytes;
    require("mode.member.capacityBytes", capacity >= MIN_CAPACITY_BYTES, || {
        format!("{capacity} must be at least {MIN_CAPACITY_BYTES}")
    })?;
    let percent = member.hot_percent;
    require("mode.member.hotPercent", percent <= 90, || format!("{percent} must be 0 to 90"))?;
    if let Placement::Ring { virtual_nodes, .. } = member.placement {
        let field = "mode.member.placement.ring.virtualNodes";
        require(field, (1..=10_000).contains(&virtual_nodes), || {
            format!("{virtual_nodes} must be 1 to 10000")
        })?;
    }
    let replica_percent = member.replica_percent;
    require("mode.member.replicaPercent", replica_percent <= 100, || {
        format!("{replica_percent} must be 0 to 100")
    })?;
    let hot_bytes = hot_bytes(capacity, percent);
    let snapshot = member.snapshot.map(check_snapshot).transpose()?;
    Ok(MemberConfig {
        registry: Some(RegistryConfig {
            endpoints: registry.endpoints,
            tls_directory: registry.tls_directory.map(PathBuf::from),
            lease_ttl: Duration::from_secs(ttl),
        }),
        placement: member.placement,
        main_bytes: capacity - hot_bytes,
        hot_bytes,
        hot_ttl_ms: member.hot_ttl_ms,
        hot_percent: percent,
        memory_bytes: member.memory_bytes,
        replica_percent,
        snapshot,
    })
}

fn check_snapshot(file: file::SnapshotConfig) -> Result<SnapshotConfig, Error> {
    let file::SnapshotConfig { directory, interval_seconds, max_bytes, bytes_per_second } = file;
    require("mode.member.snapshot.directory", !directory.is_empty(), || "name a folder".into())?;
    let field = "mode.member.snapshot.intervalSeconds";
    require(field, (1..=86_400).contains(&interval_seconds), || {
        format!("{interval_seconds} must be 1 to 86400")
    })?;
    for (field, bytes) in [
        ("mode.member.snapshot.maxBytes", max_bytes),
        ("mode.member.snapshot.bytesPerSecond", bytes_per_second),
    ] {
        require(field, bytes >= MIN_CAPACITY_BYTES, || {
            format!("{bytes} must be at least {MIN_CAPACITY_BYTES}")
        })?;
    }
    Ok(SnapshotConfig {
        directory: directory.into(),
        interval: Duration::from_secs(interval_seconds),
        max_bytes,
        bytes_per_second,
    })
}

fn check_sidecar(sidecar: &file::SidecarMode) -> Result<(), Error> {
    let field = "mode.sidecar.members";
    require(field, !sidecar.members.is_empty(), || "name at least one host:port".into())?;
    for member in &sidecar.members {
        member
            .parse::<larder_client::Endpoint>()
            .map_err(|error| Error::Field { field, problem: error.to_string() })?;
    }
    Ok(())
}

fn check_tls(file: file::TlsConfig) -> Result<TlsSettings, Error> {
    let file::TlsConfig { directory, server_name } = file;
    require("tls.directory", !directory.is_empty(), || "name a folder".into())?;
    match ServerName::try_from(server_name.clone()) {
        Ok(server_name @ ServerName::DnsName(_)) => {
            Ok(TlsSettings { directory: directory.into(), server_name })
        }
        _ => Err(Error::Field {
            field: "tls.serverName",
            problem: format!("{server_name:?} is not a DNS name, such as shop.prod.svc"),
        }),
    }
}

fn check_limits(limits: &Limits) -> Result<(), Error> {
    let Limits {
        max_key_bytes,
        max_value_bytes,
        max_batch_keys,
        max_waiting_requests,
        default_timeout_ms,
        workers,
    } = *limits;
    let within = |field, value: usize, max| {
        require(field, (1..=max).contains(&value), || format!("{value} must be 1 to {max}"))
    };
    within("limits.maxKeyBytes", max_key_bytes, MAX_KEY_BYTES)?;
    within("limits.maxValueBytes", max_value_bytes, MAX_VALUE_BYTES)?;
    within("limits.maxBatchKeys", max_batch_keys, 100_000)?;
    within("limits.maxWaitingRequests", max_waiting_requests, 10_000_000)?;
    require("limits.defaultTimeoutMs", (1..=3_600_000).contains(&default_timeout_ms), || {
        format!("{default_timeout_ms} must be 1 to 3600000")
    })?;
    require("limits.workers", workers <= MAX_WORKERS, || {
        format!("{workers} must be 0 to {MAX_WORKERS}")
    })
}

fn address(field: &'static str, text: &str) -> Result<SocketAddr, Error> {
    text.parse().map_err(|_| Error::Field {
        field,
        problem: format!("{text:?} is not an address and a port, such as 0.0.0.0:7600"),
    })
}

fn require(
    field: &'static str,
    holds: bool,
    problem: impl FnOnce() -> String,
) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::Field { field, problem: problem() }) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "shop-0".into(),
            uid: "u".into(),
            advertise_host: "10.0.0.7".into(),
            zone: None,
        }
    }

    fn smallest() -> Value {
        json!({
            "cluster": {"namespace": "prod", "name": "shop"},
            "mode": {"member": {
                "registry": {"endpoints": ["http://shop-etcd:2379"]},
                "placement": {"rendezvous": {}},
                "capacityBytes": 400_000_000_u64,
            }},
        })
    }

    fn check(change: impl FnOnce(&mut Value)) -> Result<Config, Error> {
        let mut file = smallest();
        change(&mut file);
        Config::new(serde_json::from_value(file).expect("fits the schema"), identity())
    }

    #[test]
    fn smallest_file_makes_a_member() {
        let config = check(|_| ()).expect("valid");
        let Mode::Member(member) = &config.mode else { panic!("a member") };
        assert_eq!((member.main_bytes, member.hot_bytes), (360_000_000, 40_000_000));
        assert_eq!(member.weight(), 381);
        assert_eq!(config.advertised(7600), "10.0.0.7:7600");
    }

    #[test]
    fn capacity_and_weight_follow_the_memory_limit() {
        let config = check(|file| file["mode"]["member"]["memoryBytes"] = (512_u64 << 20).into());
        let Mode::Member(member) = config.expect("valid").mode else { panic!("a member") };
        let larger = member.resized(1024 << 20);
        let more = (512 << 20) / 100 * 80;
        assert!((larger.main_bytes + larger.hot_bytes).abs_diff(400_000_000 + more) < 200);
        assert_eq!(larger.hot_bytes, hot_bytes(larger.main_bytes + larger.hot_bytes, 10));
        assert_eq!(larger.weight(), 381 + 410);
        let back = larger.resized(512 << 20);
        assert!(back.main_bytes.abs_diff(member.main_bytes) < 200, "{back:?}");
        assert_eq!(member.resized(1).main_bytes + member.resized(1).hot_bytes, MIN_CAPACITY_BYTES);
        let fixed = MemberConfig { memory_bytes: None, ..member };
        assert_eq!(fixed.resized(1 << 40), fixed);
    }

    #[test]
    fn each_wrong_field_is_named_in_one_line() {
        let cases: [(&str, Value, &str); 8] = [
            (
                "/mode/member/snapshot",
                json!({"directory": "/data", "intervalSeconds": 0}),
                "snapshot.intervalSeconds: 0 must be 1 to 86400",
            ),
            ("/mode/member/capacityBytes", json!(10), "mode.member.capacityBytes: 10 must be"),
            ("/mode/member/registry/endpoints", json!([]), "registry.endpoints: name at least"),
            ("/mode/member/registry/endpoints", json!(["etcd:2379"]), "must begin with http"),
            (
                "/mode/member/placement",
                json!({"ring": {"virtualNodes": 0, "hash": "Xxh3"}}),
                "virtualNodes: 0 must be 1 to 10000",
            ),
            ("/cluster/name", json!("a/b"), "cluster.name: \"a/b\" is not a name"),
            ("/listen", json!({"grpc": "7600"}), "listen.grpc: \"7600\" is not an address"),
            ("/limits", json!({"maxValueBytes": 0}), "limits.maxValueBytes: 0 must be 1 to"),
        ];
        for (pointer, value, expected) in cases {
            let error = check(|file| {
                let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
                file.pointer_mut(parent).expect("there")[field] = value;
            });
            let text = error.expect_err(pointer).to_string();
            assert!(text.contains(expected) && !text.contains('\n'), "{text}");
        }
    }

    #[test]
    fn the_error_of_a_missing_identity_says_how_to_set_it() {
        let file: NodeConfig = serde_json::from_value(smallest()).expect("valid");
        let nameless = Identity { name: String::new(), ..identity() };
        let text = Config::new(file, nameless).expect_err("nameless").to_string();
        assert!(text.contains("LARDER_MEMBER_NAME"), "{text}");
    }

    #[test]
    fn a_sidecar_needs_members_but_no_name() {
        let nameless = Identity {
            name: String::new(),
            uid: String::new(),
            advertise_host: String::new(),
            zone: None,
        };
        let make = |members: Value| {
            let mut file = smallest();
            file["mode"] = json!({"sidecar": {"members": members}});
            Config::new(serde_json::from_value(file).expect("fits the schema"), nameless.clone())
        };
        make(json!(["shop-members:7600", "shop-members"])).expect("the port has a default");
        let text = make(json!(["dns://shop"])).expect_err("an unknown scheme").to_string();
        assert_eq!(
            text,
            "mode.sidecar.members: \"dns://shop\" is not an endpoint: the scheme \"dns\" is \
             unknown: use http://, https:// or none"
        );
        make(json!([])).expect_err("no members");
    }

    #[test]
    fn tls_needs_a_folder_and_a_dns_name() {
        let make = |tls: Value| check(|file| file["tls"] = tls);
        let valid = json!({"directory": "/etc/larder/tls", "serverName": "shop.prod.svc"});
        assert!(make(valid).expect("valid").tls.is_some());
        for (tls, expected) in [
            (json!({"directory": "", "serverName": "shop.prod.svc"}), "tls.directory: name a"),
            (
                json!({"directory": "/tls", "serverName": "10.0.0.1"}),
                "tls.serverName: \"10.0.0.1\"",
            ),
            (json!({"directory": "/tls", "serverName": "a b"}), "tls.serverName: \"a b\" is not"),
        ] {
            let text = make(tls).expect_err(expected).to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn ipv6_addresses_are_bracketed() {
        let mut config = Config::alone("a", 1 << 20);
        config.identity.advertise_host = "fd00::7".into();
        assert_eq!(config.advertised(7600), "[fd00::7]:7600");
        config.identity.advertise_host = "shop-0.shop-members".into();
        assert_eq!(config.advertised(7600), "shop-0.shop-members:7600");
    }
}
