//! Owns the one decision about a managed etcd cluster: which StatefulSets should stand, and which
//! single change of membership is safe now. Pure; it never reads or writes anything.
//!
//! The truth is the member list that etcd's leader knows, not the pods. The rules:
//!
//! 1. A cluster begins as one **seed**; every other member joins as a **learner**, one at a time,
//!    and is promoted when it has caught up.
//! 2. A member is **sealed** before it has a vote beside others: from then on its pod's template
//!    cannot join any cluster, so a pod that finds its volume empty does not start. Otherwise it
//!    would vote under its old identity and forget what it promised.
//! 3. A voter whose data is gone is removed by id, while a quorum stands to agree, and comes back
//!    under a new name as a learner. A name is not used again while anything of it remains.
//! 4. Too many voters are removed one at a time, the leader last.
//! 5. A new configuration (image, resources) arrives by **surge**: one more member joins with it,
//!    then an outdated one is removed. There are never fewer voters than wanted.
//! 6. When so many voters' data is gone that no quorum can come back, everything is begun again
//!    from a seed of the next **incarnation**. That is allowed because the registry holds only what
//!    can be made again.
//!
//! Each step is chosen afresh from what is seen, so it does not matter where the last operator
//! died.

mod decide;
pub mod seen;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::etcd::{Answer, Record};

pub use decide::plan;

/// What is seen of one managed etcd cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Voters wanted, 1 or 3.
    pub wanted: usize,
    /// How members are called.
    pub naming: Naming,
    /// The StatefulSets that exist, of every incarnation.
    pub slots: Vec<Slot>,
    /// Ordinals of which a pod or a volume remains, though its StatefulSet may be gone.
    pub remains: BTreeSet<u32>,
    /// The highest incarnation of which anything remains; 0 when nothing does.
    pub last_incarnation: u64,
}

/// One member's StatefulSet with its pod, its data, and what the member says.
#[derive(Debug, Clone, PartialEq)]
pub struct Slot {
    /// Name of the StatefulSet and of the member.
    pub name: String,
    /// Incarnation of the etcd cluster for which it was made.
    pub incarnation: u64,
    /// How its template starts a member.
    pub start: Start,
    /// It is being deleted.
    pub terminating: bool,
    /// Identity of the data that the pod holds or would hold now; none while there is neither pod
    /// nor volume.
    pub data: Option<String>,
    /// Data outlives the pod.
    pub durable: bool,
    /// The member will not come back although its pod may: its data is gone or its place is.
    pub lost: Option<Loss>,
    /// The pod does not run the newest configuration or start.
    pub outdated: bool,
    /// The pod, when there is one.
    pub pod: Option<String>,
    /// Why the pod does not run, in Kubernetes' words.
    pub trouble: Option<String>,
    /// What the member says of itself; none when it does not answer.
    pub answer: Option<Answer>,
}

/// Why a member will not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// A sealed member's pod holds other data than the member was sealed with, or says that it
    /// found none.
    Data,
    /// It fails again and again.
    Crashes,
    /// Its pod cannot run anywhere, or hangs on a dead Kubernetes node, for longer than a restart
    /// takes.
    Place,
}

/// How a member's template starts it. A member that finds its data ignores all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The first member of a new cluster.
    Seed,
    /// Joins the members named, itself among them: name and peer URL.
    Join {
        /// Every member of the list at the time it joins.
        initial_cluster: Vec<(String, String)>,
    },
    /// Goes on with its data or not at all.
    Sealed {
        /// Identity of the data that it was sealed with.
        data: String,
    },
}

/// A StatefulSet that should stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdMember {
    /// Name of the StatefulSet and of the member.
    pub name: String,
    /// Incarnation of the etcd cluster; part of its token.
    pub incarnation: u64,
    /// How its template starts it.
    pub start: Start,
}

/// What should be done to a managed etcd cluster now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The StatefulSets that should stand; every other one is to go.
    pub members: Vec<EtcdMember>,
    /// At most one change, made after the StatefulSets stand.
    pub step: Step,
    /// How the cluster is.
    pub health: Health,
}

/// One change of membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing to do.
    Rest,
    /// Nothing can be done until something outside changes; look again soon.
    Wait,
    /// Adds a member without a vote.
    AddLearner {
        /// Its name.
        name: String,
        /// Where its peers will find it.
        peer_url: String,
    },
    /// Gives the learner its vote.
    Promote {
        /// Its identity.
        id: u64,
        /// Its name.
        name: String,
    },
    /// Removes a member for good.
    Remove {
        /// Its identity.
        id: u64,
        /// Its name, or its peer URL when it is not one of ours.
        name: String,
        /// Why.
        why: Removal,
    },
    /// Deletes a pod that does not run, so that it starts again from the newest template.
    Restart {
        /// The pod.
        pod: String,
    },
}

/// Why a member is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It will not come back.
    Lost(Loss),
    /// Nothing of it is left but its line in the list.
    Vanished,
    /// There are more voters than wanted.
    Surplus,
    /// A member with the newest configuration has taken its place.
    Outdated,
}

impl Removal {
    /// The reason for people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Lost(Loss::Data) => "its data is gone",
            Self::Lost(Loss::Crashes) => "it fails again and again",
            Self::Lost(Loss::Place) => "its pod finds no place to run",
            Self::Vanished => "its StatefulSet is gone",
            Self::Surplus => "there are more voters than wanted",
            Self::Outdated => "a member with the newest configuration took its place",
        }
    }
}

/// How a managed etcd cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The seed has not answered yet.
    Starting {
        /// What keeps it.
        trouble: Option<String>,
    },
    /// A quorum stands, but not everything is as wanted.
    Converging {
        /// Voters that answer.
        healthy: usize,
        /// Voters in the list.
        voters: usize,
        /// Members that do not answer, with what keeps them.
        down: Vec<(String, Option<String>)>,
    },
    /// No quorum now; it may come back.
    NoQuorum {
        /// Members that do not answer, with what keeps them.
        down: Vec<(String, Option<String>)>,
    },
    /// Quorum was lost for good, everything begins again.
    Rebuilding,
    /// Every wanted voter answers.
    Healthy,
}

/// How the members of one cluster are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// What stands before the ordinal.
    pub prefix: String,
    /// What stands between the scheme and the name in a peer URL.
    pub url_head: String,
    /// What follows the name in a peer URL.
    pub url_tail: String,
}

impl Naming {
    /// The name with an ordinal.
    #[must_use]
    pub fn name(&self, ordinal: u32) -> String {
        format!("{}{ordinal}", self.prefix)
    }

    /// The ordinal in a name; none when it is not one of ours.
    #[must_use]
    pub fn ordinal(&self, name: &str) -> Option<u32> {
        name.strip_prefix(&self.prefix)?.parse().ok()
    }

    /// Where the member of that name is found by its peers.
    #[must_use]
    pub fn peer_url(&self, name: &str) -> String {
        format!("{}{name}{}", self.url_head, self.url_tail)
    }

    /// The name in a peer URL; none when it is not one of ours.
    #[must_use]
    pub fn name_in(&self, peer_url: &str) -> Option<String> {
        let name = peer_url.strip_prefix(&self.url_head)?.strip_suffix(&self.url_tail)?;
        self.ordinal(name).map(|_| name.to_owned())
    }

    /// What a line of the member list is called.
    #[must_use]
    pub fn called(&self, record: &Record) -> String {
        self.name_in(&record.peer_url).unwrap_or_else(|| record.peer_url.clone())
    }
}
