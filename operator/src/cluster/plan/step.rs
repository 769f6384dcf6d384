//! Owns the result of a plan: the StatefulSets that should exist, one step, and the health that
//! status reports.

use super::member::EtcdMember;
use super::state::Loss;

/// What to do with a managed etcd cluster now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The members whose StatefulSets should exist; every other one is deleted.
    pub members: Vec<EtcdMember>,
    /// At most one change, made after the StatefulSets are applied.
    pub step: Step,
    /// What status reports.
    pub health: Health,
}

/// One change of membership.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants say what a member's id, name and peer URL are for")]
pub enum Step {
    /// Everything is as wanted.
    Settled,
    /// Nothing is safe until something outside changes; the next reconcile follows soon.
    Wait,
    /// Adds a member without a vote.
    AddLearner { name: String, peer_url: String },
    /// Gives the learner its vote.
    Promote { id: u64, name: String },
    /// Removes a member for good. `name` is its peer URL when this operator did not add it.
    Remove { id: u64, name: String, why: Removal },
    /// Deletes a pod that does not run, so that it starts again from the newest template.
    Restart { pod: String },
}

/// Why a member is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It will not come back.
    Lost(Loss),
    /// Only its line in the member list is left.
    Vanished,
    /// There are more voters than wanted.
    Surplus,
    /// A member with the newest configuration has taken its place.
    Outdated,
}

impl Removal {
    /// The reason, as an event gives it.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Lost(Loss::Data) => "its data is gone",
            Self::Lost(Loss::Crashes) => "it crashes repeatedly",
            Self::Lost(Loss::NoNode) => "its pod has no Kubernetes node to run on",
            Self::Vanished => "its StatefulSet is gone",
            Self::Surplus => "there are more voters than wanted",
            Self::Outdated => "a member with the newest configuration has replaced it",
        }
    }
}

/// How healthy a managed etcd cluster is. `trouble` and `down` say why members do not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants say what their fields count")]
pub enum Health {
    /// The seed has not answered yet.
    Starting { trouble: Option<String> },
    /// There is a quorum, but not everything is as wanted. Of `voters` in the member list
    /// `healthy` answer.
    Converging { healthy: usize, voters: usize, down: Vec<(String, Option<String>)> },
    /// There is no quorum now; it may come back.
    NoQuorum { down: Vec<(String, Option<String>)> },
    /// The quorum is lost for good, and a new cluster starts.
    Rebuilding,
    /// Every wanted voter answers.
    Healthy,
}
