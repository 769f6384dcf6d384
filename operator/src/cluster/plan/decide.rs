//! Owns the choice itself. Start at [`plan`]; the rules are numbered in [`super`].

use std::collections::BTreeSet;

use super::{EtcdMember, Health, Loss, Naming, Plan, Removal, Seen, Slot, Start, Step};
use crate::etcd::{Answer, Record};

/// Chooses what should stand and the one change that is safe now.
///
/// # Guarantees
/// A step never takes away a quorum that stands; a cluster is begun again only when no quorum can
/// come back; at most one learner exists.
#[must_use]
pub fn plan(seen: &Seen) -> Plan {
    let standing: Vec<&Slot> = seen.slots.iter().filter(|slot| !slot.terminating).collect();
    let Some(incarnation) = standing.iter().map(|slot| slot.incarnation).max() else {
        return begin(seen);
    };
    let current: Vec<&Slot> =
        standing.into_iter().filter(|slot| slot.incarnation == incarnation).collect();
    match Quorum::find(&seen.naming, &current) {
        Some(quorum) => with_quorum(seen, incarnation, &quorum),
        None => without_quorum(seen, &current),
    }
}

/// Rule 1, and rule 6 when anything was there before.
fn begin(seen: &Seen) -> Plan {
    let name = free_name(seen, &[]);
    let incarnation = seen.last_incarnation + 1;
    let health = if seen.last_incarnation == 0 {
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

/// The lowest ordinal of which nothing remains anywhere.
fn free_name(seen: &Seen, list: &[Member<'_>]) -> String {
    let named = |name: &str| seen.naming.ordinal(name);
    let taken: BTreeSet<u32> = seen
        .remains
        .iter()
        .copied()
        .chain(seen.slots.iter().filter_map(|slot| named(&slot.name)))
        .chain(list.iter().filter_map(|member| named(&member.name)))
        .collect();
    let free = (0..).find(|ordinal| !taken.contains(ordinal)).expect("fewer members than numbers");
    seen.naming.name(free)
}

/// A line of the member list with what stands behind it.
struct Member<'s> {
    record: &'s Record,
    name: String,
    slot: Option<&'s Slot>,
    /// It answers under this identity and follows the leader.
    healthy: bool,
}

impl Member<'_> {
    fn sealed(&self) -> bool {
        self.slot.is_some_and(|slot| matches!(slot.start, Start::Sealed { .. }))
    }

    fn outdated(&self) -> bool {
        self.slot.is_some_and(|slot| slot.outdated)
    }

    /// Why it will not come back, if so. One that answers is never given up.
    fn loss(&self) -> Option<Removal> {
        match self.slot {
            _ if self.healthy => None,
            Some(slot) => slot.lost.map(Removal::Lost),
            // Added, but its StatefulSet was not made yet: rule 1 goes on.
            None if self.record.learner && self.record.name.is_empty() => None,
            None => Some(Removal::Vanished),
        }
    }
}

/// The member list as the leader knows it, with a majority of the voters behind him.
struct Quorum<'s> {
    leader: u64,
    members: Vec<Member<'s>>,
}

impl<'s> Quorum<'s> {
    fn find(naming: &Naming, current: &[&'s Slot]) -> Option<Self> {
        let answers = || current.iter().filter_map(|slot| slot.answer.as_ref());
        // After a partition an old leader may still believe in himself; the one who has applied
        // more is the newer, and only he can have a majority behind him.
        let leads = answers()
            .filter(|a| a.leader == a.member_id && a.leader != 0)
            .max_by_key(|a| a.applied)?;
        let follows = |answer: &Answer| {
            answer.leader == leads.member_id && answer.cluster_id == leads.cluster_id
        };
        let members: Vec<Member<'s>> = leads
            .members
            .iter()
            .map(|record| {
                let name = naming.called(record);
                let slot = current.iter().copied().find(|slot| slot.name == name);
                let healthy = slot
                    .and_then(|slot| slot.answer.as_ref())
                    .is_some_and(|answer| answer.member_id == record.id && follows(answer));
                Member { record, name, slot, healthy }
            })
            .collect();
        let quorum = Self { leader: leads.member_id, members };
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

fn with_quorum(seen: &Seen, incarnation: u64, quorum: &Quorum<'_>) -> Plan {
    let step = choose(seen, quorum);
    let health = if matches!(step, Step::Rest) {
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
        // What is ours and stands, and the learner that was added but not made yet.
        let ours = seen.naming.ordinal(&member.name).is_some();
        ours && (member.slot.is_some() || member.loss().is_none())
    });
    let members = members.map(|member| EtcdMember {
        name: member.name.clone(),
        incarnation,
        start: start_of(member, &initial_cluster),
    });
    Plan { members: members.collect(), step, health }
}

/// Rule 2: sealed as soon as it answers, and for good.
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

fn choose(seen: &Seen, quorum: &Quorum<'_>) -> Step {
    let voters = quorum.voters().count();
    let surge = quorum.voters().any(Member::outdated);
    remove_lost(quorum)
        .or_else(|| remove_surplus(seen, quorum))
        .or_else(|| quorum.learner().map(|learner| raise(seen, quorum, learner, surge)))
        .or_else(|| restart(quorum))
        .or_else(|| {
            // Each voter must be sealed before another one comes (rule 2); a surge waits until
            // nobody is down, a missing member does not.
            let may = quorum.voters().all(Member::sealed);
            let all_healthy = quorum.healthy() == voters;
            let want = voters < seen.wanted || (surge && all_healthy && voters == seen.wanted);
            (may && want).then(|| {
                let name = free_name(seen, &quorum.members);
                Step::AddLearner { peer_url: seen.naming.peer_url(&name), name }
            })
        })
        .unwrap_or_else(|| {
            let settled = voters == seen.wanted
                && quorum.healthy() == voters
                && quorum.voters().all(Member::sealed);
            if settled { Step::Rest } else { Step::Wait }
        })
}

/// Rule 3. A learner may go at any time; a voter while the others carry both the old and the new
/// quorum, which [`Quorum::find`] has shown for every voter that does not answer.
fn remove_lost(quorum: &Quorum<'_>) -> Option<Step> {
    let lost = |member: &Member<'_>| member.loss().map(|why| remove(member, why));
    quorum.learner().and_then(lost).or_else(|| quorum.voters().find_map(lost))
}

/// Rules 4 and 5.
fn remove_surplus(seen: &Seen, quorum: &Quorum<'_>) -> Option<Step> {
    let voters = quorum.voters().count();
    if voters <= seen.wanted {
        return None;
    }
    let rank = |member: &&Member<'_>| {
        let leads = member.record.id == quorum.leader;
        let ordinal = seen.naming.ordinal(&member.name);
        // The first that differs decides: dead before living, outdated before new, followers
        // before the leader, strangers and then high ordinals before low ones.
        (!member.healthy, member.outdated(), !leads, ordinal.is_none(), ordinal)
    };
    let chosen = quorum.voters().max_by_key(rank)?;
    let left = quorum.healthy() - usize::from(chosen.healthy);
    let why = if chosen.outdated() { Removal::Outdated } else { Removal::Surplus };
    (left >= majority(voters - 1)).then(|| remove(chosen, why))
}

/// What becomes of the learner.
fn raise(seen: &Seen, quorum: &Quorum<'_>, learner: &Member<'_>, surge: bool) -> Step {
    let voters = quorum.voters().count();
    if voters >= seen.wanted && !surge {
        return remove(learner, Removal::Surplus);
    }
    let carries = quorum.healthy() + 1 >= majority(voters + 1);
    if learner.healthy && learner.sealed() && carries {
        return Step::Promote { id: learner.record.id, name: learner.name.clone() };
    }
    restart(quorum).unwrap_or(Step::Wait)
}

/// A pod that does not answer and runs an old template gets the new one, unless its data would go
/// with it.
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

/// Either the seed has not answered yet, or a quorum is away, or it is lost for good (rule 6).
fn without_quorum(seen: &Seen, current: &[&Slot]) -> Plan {
    let down = || {
        let silent = current.iter().filter(|slot| slot.answer.is_none());
        silent.map(|slot| (slot.name.clone(), slot.trouble.clone())).collect()
    };
    if lost_for_good(&seen.naming, current) {
        return begin(seen);
    }
    let step = current
        .iter()
        .filter(|slot| slot.answer.is_none())
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

/// True when so many voters' data is gone that the rest is no majority of them. A voter whose place
/// is gone may still hold its data, but in a place that nobody can reach: it counts as gone too.
fn lost_for_good(naming: &Naming, current: &[&Slot]) -> bool {
    let voices = current.iter().filter_map(|slot| slot.answer.as_ref()).filter(|a| !a.learner);
    let newest = voices.max_by_key(|answer| answer.applied);
    let gone = |slot: &Slot| slot.answer.is_none() && slot.lost.is_some_and(|l| l != Loss::Crashes);
    let Some(answer) = newest else {
        // Nobody says who had a vote. An unsealed seed just starts; a sealed member may have been
        // the only voter, so all of them must be gone, or fail without end: so does one that was
        // removed and whose StatefulSet stands yet.
        let seed = current.iter().any(|slot| slot.start == Start::Seed);
        let mut may_vote = current.iter().filter(|slot| {
            // Who answers here is a learner.
            matches!(slot.start, Start::Sealed { .. }) && slot.answer.is_none()
        });
        return !seed && may_vote.all(|slot| slot.lost.is_some());
    };
    let voters: Vec<&Record> = answer.members.iter().filter(|record| !record.learner).collect();
    let stands = |record: &&&Record| {
        let name = naming.called(record);
        current.iter().any(|slot| slot.name == name && !gone(slot))
    };
    voters.iter().filter(stands).count() < majority(voters.len())
}
