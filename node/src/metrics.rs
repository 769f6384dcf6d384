//! Every metric of a node: names, labels, and handles that are resolved once.
//!
//! One registration per area. Names and labels are contracts with dashboards. A label is never a
//! key, an address or the text of an error. Metrics take plain values and import no module that
//! they measure. Start at [`CacheMetrics`].

mod cache;
mod engine;
mod grpc;
mod process;
mod register;
mod ring;
mod snapshot;
mod take_over;
mod tls;

pub use cache::{CacheMetrics, CountedAs, GroupMetrics, LoadTarget, OriginRefusal, hit_ratio};
pub use engine::{EngineCollector, EngineFigures, GroupFigures};
pub use grpc::{CallTimer, GrpcMetrics, Method};
pub use process::register_process;
pub use ring::{PeerMetrics, RingMetrics};
pub use snapshot::{SnapshotMetrics, SnapshotOperation};
pub use take_over::{StoredEntries, TakeOverMetrics};
pub use tls::{HandshakeRefusal, PortTlsMetrics, TlsMetrics};
