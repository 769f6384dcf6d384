//! Owns the decision itself. Start at [`plan`]; the rules are numbered in the module above.

use std::collections::BTreeSet;

use super::member::{EtcdMember, Start};
use super::naming::Naming;
use super::state::{EtcdState, Loss, Slot};
use super::step::{Health, Plan, Removal, Step};
use crate::etcd::{MemberStatus, Record};

/// Chooses the StatefulSets that should exist and the one change that is safe now.
///
/// # Guarantees
/// A step never breaks an existing quorum. A cluster is started anew only when no quorum can come
/// back. At most one learner exists.
#[must_use]
pub fn plan(state: &EtcdState) -> Plan {
    let existing: Vec<&Slot> = state.slots.iter().filter(|slot| !slot.terminating).collect();
    let Some(incarnation) = existing.iter().map(|slot| slot.incarnation).max() else {
        return start_cluster(state);
    };
    let current: Vec<&Slot> =
        existing.into_iter().filter(|slot| slot.incarnation == incarnation).collect();
    match Quorum::find(&state.naming, &current) {
        Some(quorum) => with_quorum(state, incarnation, &quorum),
        None => without_quorum(state, &current),
    }
}

/// Rule 1, and rule 6 when there was a cluster before.
fn start_cluster(state: &EtcdState) -> Plan {
    let name = free_name(state, &[]);
    let incarnation = state.last_incarnation + 1;
    let health = if state.last_incarnation == 0 {
        Health::Starting { trouble: None }
    } else {
        Health::Rebuilding
    };
    Plan {
        members: vec![EtcdMember { name, incarnation, start: Start::Seed }],
        step: Step::Wait,
        health,
    }
}

/// The name with the lowest ordinal that no object and no listed member carries.
fn free_name(state: &EtcdState, list: &[Member<'_>]) -> String {
    let ordinal = |name: &str| state.naming.ordinal(name);
    let taken: BTreeSet<u32> = state
        .used_ordinals
        .iter()
        .copied()
        .chain(state.slots.iter().filter_map(|slot| ordinal(&slot.name)))
        .chain(list.iter().filter_map(|member| ordinal(&member.name)))
        .collect();
    let free = (0..).find(|ordinal| !taken.contains(ordinal)).expect("fewer members than numbers");
    state.naming.name(free)
}

/// A line of the member list with the slot that it belongs to.
struct Member<'s> {
    record: &'s Record,
    name: String,
    slot: Option<&'s Slot>,
    /// It answers under the listed identity and follows the leader.
    healthy: bool,
}

impl Member<'_> {
    fn sealed(&self) -> bool {
        self.slot.is_some_and(|slot| matches!(slot.start, Start::Sealed { .. }))
    }

    fn outdated(&self) -> bool {
        self.slot.is_some_and(|slot| slot.outdated)
    }

    /// Why it will not come back. A member that answers is never given up.
    fn loss(&self) -> Option<Removal> {
        match self.slot {
            _ if self.healthy => None,
            Some(slot) => slot.lost.map(Removal::Lost),
            // Added, but its StatefulSet does not exist yet: rule 1 continues.
            None if self.record.learner && self.record.name.is_empty() => None,
            None => Some(Removal::Vanished),
        }
    }
}

/// The leader's member list, when a majority of the voters follows that leader.
struct Quorum<'s> {
    leader: u64,
    members: Vec<Member<'s>>,
}

impl<'s> Quorum<'s> {
    fn find(naming: &Naming, current: &[&'s Slot]) -> Option<Self> {
        let statuses = current.iter().filter_map(|slot| slot.status.as_ref());
        // After a partition an old leader may still think it leads. The higher applied index is the
        // newer, and only the newer leader can have a majority.
        let leader = statuses
            .filter(|status| status.leader == status.member_id && status.leader != 0)
            .max_by_key(|status| status.applied)?;
        let follows = |status: &MemberStatus| {
            status.leader == leader.member_id && status.cluster_id == leader.cluster_id
        };
        let members: Vec<Member<'s>> = leader
            .members
            .iter()
            .map(|record| {
                let name = naming.name_of(record);
                let slot = current.iter().copied().find(|slot| slot.name == name);
                let healthy = slot
                    .and_then(|slot| slot.status.as_ref())
                    .is_some_and(|status| status.member_id == record.id && follows(status));
                Member { record, name, slot, healthy }
            })
            .collect();
        let quorum = Self { leader: leader.member_id, members };
        (quorum.healthy() >= majority(quorum.voters().count())).then_some(quorum)
    }

    fn voters(&self) -> impl Iterator<Item = &Member<'s>> {
        self.members.iter().filter(|member| !member.record.learner)
    }

    fn healthy(&self) -> usize {
        self.voters().filter(|member| member.healthy).count()
    }

    fn learner(&self) -> Option<&Member<'s>> {
        self.members.iter().find(|member| member.record.learner)
    }
}

fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

fn with_quorum(state: &EtcdState, incarnation: u64, quorum: &Quorum<'_>) -> Plan {
    let step = choose(state, quorum);
    let health = if matches!(step, Step::Settled) {
        Health::Healthy
    } else {
        let down = quorum.members.iter().filter(|member| !member.healthy);
        Health::Converging {
            healthy: quorum.healthy(),
            voters: quorum.voters().count(),
            down: down.map(|m| (m.name.clone(), m.slot.and_then(|s| s.trouble.clone()))).collect(),
        }
    };
    let initial_cluster: Vec<(String, String)> =
        quorum.members.iter().map(|m| (m.name.clone(), m.record.peer_url.clone())).collect();
    let members = quorum.members.iter().filter(|member| {
        // Members that this operator named: those with a StatefulSet, and the learner that was
        // added but has none yet.
        let known = state.naming.ordinal(&member.name).is_some();
        known && (member.slot.is_some() || member.loss().is_none())
    });
    let members = members.map(|member| EtcdMember {
        name: member.name.clone(),
        incarnation,
        start: start_of(member, &initial_cluster),
    });
    Plan { members: members.collect(), step, health }
}

/// Rule 2: a member is sealed as soon as it answers, and stays sealed.
fn start_of(member: &Member<'_>, initial_cluster: &[(String, String)]) -> Start {
    let join = || Start::Join { initial_cluster: initial_cluster.to_vec() };
    let Some(slot) = member.slot else { return join() };
    match (&slot.start, &slot.data) {
        (Start::Sealed { .. }, _) => slot.start.clone(),
        (_, Some(data)) if member.healthy => Start::Sealed { data: data.clone() },
        (Start::Seed, _) => Start::Seed,
        (Start::Join { .. }, _) => join(),
    }
}

fn choose(state: &EtcdState, quorum: &Quorum<'_>) -> Step {
    let voters = quorum.voters().count();
    let surge = quorum.voters().any(Member::outdated);
    remove_lost(quorum)
        .or_else(|| remove_surplus(state, quorum))
        .or_else(|| quorum.learner().map(|learner| promote(state, quorum, learner, surge)))
        .or_else(|| restart(quorum))
        .or_else(|| {
            // Every voter must be sealed before another member joins (rule 2). A surge waits until
            // every voter answers; the replacement of a missing member does not.
            let can_add = quorum.voters().all(Member::sealed);
            let all_healthy = quorum.healthy() == voters;
            let needs_one =
                voters < state.wanted || (surge && all_healthy && voters == state.wanted);
            (can_add && needs_one).then(|| {
                let name = free_name(state, &quorum.members);
                Step::AddLearner { peer_url: state.naming.peer_url(&name), name }
            })
        })
        .unwrap_or_else(|| {
            let settled = voters == state.wanted
                && quorum.healthy() == voters
                && quorum.voters().all(Member::sealed);
            if settled { Step::Settled } else { Step::Wait }
        })
}

/// Rule 3. A learner can be removed at any time. A voter can be removed while the others are a
/// majority both with and without it, which [`Quorum::find`] has shown for every voter that does
/// not answer.
fn remove_lost(quorum: &Quorum<'_>) -> Option<Step> {
    let lost = |member: &Member<'_>| member.loss().map(|why| remove(member, why));
    quorum.learner().and_then(lost).or_else(|| quorum.voters().find_map(lost))
}

/// Rules 4 and 5.
fn remove_surplus(state: &EtcdState, quorum: &Quorum<'_>) -> Option<Step> {
    let voters = quorum.voters().count();
    if voters <= state.wanted {
        return None;
    }
    let rank = |member: &&Member<'_>| {
        let leads = member.record.id == quorum.leader;
        let ordinal = state.naming.ordinal(&member.name);
        // The first difference decides: members that do not answer first, then outdated ones, then
        // followers, then members that this operator did not add, then high ordinals.
        (!member.healthy, member.outdated(), !leads, ordinal.is_none(), ordinal)
    };
    let chosen = quorum.voters().max_by_key(rank)?;
    let left = quorum.healthy() - usize::from(chosen.healthy);
    let why = if chosen.outdated() { Removal::Outdated } else { Removal::Surplus };
    (left >= majority(voters - 1)).then(|| remove(chosen, why))
}

/// Promotes the learner when that is safe, removes it when it is no longer needed.
fn promote(state: &EtcdState, quorum: &Quorum<'_>, learner: &Member<'_>, surge: bool) -> Step {
    let voters = quorum.voters().count();
    if voters >= state.wanted && !surge {
        return remove(learner, Removal::Surplus);
    }
    let keeps_quorum = quorum.healthy() + 1 >= majority(voters + 1);
    if learner.healthy && learner.sealed() && keeps_quorum {
        return Step::Promote { id: learner.record.id, name: learner.name.clone() };
    }
    restart(quorum).unwrap_or(Step::Wait)
}

/// Restarts a pod that does not answer and has an old template, unless its data would be lost.
fn restart(quorum: &Quorum<'_>) -> Option<Step> {
    quorum.members.iter().filter(|member| !member.healthy).find_map(|member| {
        let slot = member.slot?;
        restart_slot(slot, member.sealed())
    })
}

fn restart_slot(slot: &Slot, sealed: bool) -> Option<Step> {
    let harmless = slot.durable || !sealed;
    let pod = slot.pod.clone()?;
    (slot.outdated && harmless).then_some(Step::Restart { pod })
}

fn remove(member: &Member<'_>, why: Removal) -> Step {
    Step::Remove { id: member.record.id, name: member.name.clone(), why }
}

/// The seed has not answered yet, or the quorum is missing, or it is lost for good (rule 6).
fn without_quorum(state: &EtcdState, current: &[&Slot]) -> Plan {
    let down = || {
        let silent = current.iter().filter(|slot| slot.status.is_none());
        silent.map(|slot| (slot.name.clone(), slot.trouble.clone())).collect()
    };
    if lost_for_good(&state.naming, current) {
        return start_cluster(state);
    }
    let step = current
        .iter()
        .filter(|slot| slot.status.is_none())
        .find_map(|slot| restart_slot(slot, matches!(slot.start, Start::Sealed { .. })));
    let health = match current {
        [seed] if seed.start == Start::Seed && seed.incarnation > 1 => Health::Rebuilding,
        [seed] if seed.start == Start::Seed => Health::Starting { trouble: seed.trouble.clone() },
        _ => Health::NoQuorum { down: down() },
    };
    let members = current.iter().map(|slot| EtcdMember {
        name: slot.name.clone(),
        incarnation: slot.incarnation,
        start: slot.start.clone(),
    });
    Plan { members: members.collect(), step: step.unwrap_or(Step::Wait), health }
}

/// True when so many voters have lost their data that the others are not a majority. A voter whose
/// Kubernetes node is gone may still have its data, but nothing can reach it: it counts as lost.
fn lost_for_good(naming: &Naming, current: &[&Slot]) -> bool {
    let voters = current.iter().filter_map(|slot| slot.status.as_ref()).filter(|s| !s.learner);
    let newest = voters.max_by_key(|status| status.applied);
    let gone = |slot: &Slot| slot.status.is_none() && slot.lost.is_some_and(|l| l != Loss::Crashes);
    let Some(status) = newest else {
        // No answer lists the voters. An unsealed seed is still starting. A sealed member may have
        // been the only voter, so every one must be lost; crashing counts, because a removed member
        // whose StatefulSet still exists crashes forever.
        let seed = current.iter().any(|slot| slot.start == Start::Seed);
        let mut may_vote = current.iter().filter(|slot| {
            // A member that answers here is a learner.
            matches!(slot.start, Start::Sealed { .. }) && slot.status.is_none()
        });
        return !seed && may_vote.all(|slot| slot.lost.is_some());
    };
    let voters: Vec<&Record> = status.members.iter().filter(|record| !record.learner).collect();
    let remains = |record: &&&Record| {
        let name = naming.name_of(record);
        current.iter().any(|slot| slot.name == name && !gone(slot))
    };
    voters.iter().filter(remains).count() < majority(voters.len())
}
