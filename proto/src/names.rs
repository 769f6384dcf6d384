//! Ports, paths and limits that both sides of a connection share.

/// Port of `larder.v1.Cache`, `larder.v1.Admin`, `groupcachepb.GroupCache`, health and reflection.
pub const GRPC_PORT: u16 = 7600;
/// Port of `larder.v1.Peer`, which only members call.
pub const PEER_PORT: u16 = 7601;
/// Port of the HTTP gateway and of groupcache's HTTP peer protocol.
pub const HTTP_PORT: u16 = 7680;
/// Port of `/metrics`, `/healthz` and `/readyz`.
pub const ADMIN_PORT: u16 = 7690;

/// Default maximum length of a key, in bytes.
pub const MAX_KEY_BYTES: usize = 4096;
/// Default maximum size of a value, in bytes. Below gRPC's usual receive limit of 4 MiB, which
/// includes framing.
pub const MAX_VALUE_BYTES: usize = 3 * 1024 * 1024;
/// Default maximum number of keys in one `GetMany`.
pub const MAX_BATCH_KEYS: usize = 1000;

/// Maximum number of tags of one value, and of one invalidation.
pub const MAX_TAGS: usize = 64;
/// Maximum length of a tag, in bytes.
pub const MAX_TAG_BYTES: usize = 128;

/// Path prefix of groupcache's HTTP peer protocol: `/_cache/<group>/<key>`.
pub const GROUPCACHE_HTTP_PREFIX: &str = "/_cache/";
