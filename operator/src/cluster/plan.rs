//! Owns the decision about a managed etcd cluster: which StatefulSets should exist, and which
//! single change of membership is safe now. Pure: it reads and writes nothing.
//!
//! The source of truth is the member list of etcd's leader, not the pods. The rules:
//!
//! 1. A cluster starts as one **seed**. Every other member joins as a **learner**, one at a time,
//!    and is promoted when it has caught up.
//! 2. A member is **sealed** before it votes next to others: from then on its pod template cannot
//!    join any cluster, so a pod that finds its volume empty does not start. It would otherwise
//!    vote under its old identity on a log that it has lost.
//! 3. A voter whose data is gone is removed by id while the others have a quorum. Its replacement
//!    joins as a learner under a new name. A name is not reused while any object of it remains.
//! 4. Surplus voters are removed one at a time, the leader last.
//! 5. A new configuration (image, resources) is rolled out by **surge**: one more member joins with
//!    it, then an outdated one is removed. There are never fewer voters than wanted.
//! 6. When so many voters have lost their data that no quorum can come back, a seed of the next
//!    **incarnation** starts an empty cluster. That is safe because the registry holds only what
//!    can be recreated.
//!
//! Each step is chosen from the observed state alone, so it does not matter where an earlier
//! operator process stopped.

mod decide;
mod member;
mod naming;
pub mod state;
mod step;
#[cfg(test)]
mod tests;

pub use decide::plan;
pub use member::{EtcdMember, Start};
pub use naming::Naming;
pub use state::{EtcdState, Loss, Slot};
pub use step::{Health, Plan, Removal, Step};
