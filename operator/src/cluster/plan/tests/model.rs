//! A model of what the plan acts on: StatefulSets, pods, volumes, and etcd's membership rules. It
//! knows the true state that the plan must infer, and asserts what must never happen.

use std::collections::{BTreeMap, BTreeSet};

use larder_runtime::random::Random;

use super::super::{EtcdMember, EtcdState, Loss, Naming, Plan, Slot, Start, Step};
use crate::etcd::{MemberStatus, Record};

fn naming() -> Naming {
    Naming::new("prod", "shop")
}

#[derive(Debug, Clone)]
struct Set {
    member: EtcdMember,
    config: u64,
}

#[derive(Debug, Clone)]
struct Pod {
    /// The template that it was created from.
    member: EtcdMember,
    config: u64,
    running: bool,
    /// It stays down until the faults are healed.
    stopped: bool,
    /// etcd reported that it found no data.
    empty: bool,
    crashes: u32,
}

#[derive(Debug, Clone)]
struct Volume {
    identity: String,
    /// Incarnation and identity of the member whose data it holds.
    data: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Default)]
struct Etcd {
    members: Vec<Record>,
    leader: u64,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) wanted: usize,
    durable: bool,
    config: u64,
    broken: bool,
    sets: BTreeMap<String, Set>,
    pods: BTreeMap<String, Pod>,
    volumes: BTreeMap<String, Volume>,
    etcds: BTreeMap<u64, Etcd>,
    last_id: u64,
}

impl World {
    pub(super) fn new(random: &Random) -> Self {
        Self::calm(if random.below(2) == 0 { 1 } else { 3 }, random.below(2) == 0)
    }

    pub(super) fn calm(wanted: usize, durable: bool) -> Self {
        Self {
            wanted,
            durable,
            config: 0,
            broken: false,
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            volumes: BTreeMap::new(),
            etcds: BTreeMap::new(),
            last_id: 0,
        }
    }

    // === faults ===

    pub(super) fn fault(&mut self, random: &Random) {
        let names: Vec<String> = self.sets.keys().cloned().collect();
        let Some(name) = names.get(usize::try_from(random.below(names.len() as u64)).expect("few"))
        else {
            return;
        };
        match random.below(9) {
            0 => self.delete_pod(name),
            1 => self.lose(name),
            2 | 3 => self.stop(name),
            4 => self.wipe(name),
            5 => drop(self.sets.remove(name)),
            6 => self.wanted = if random.below(2) == 0 { 1 } else { 3 },
            7 => self.configure(random.below(3), random.below(3) == 0),
            _ => self.heal(),
        }
    }

    pub(super) fn delete_pod(&mut self, name: &str) {
        self.pods.remove(name);
        if !self.durable {
            self.volumes.remove(name);
        }
    }

    /// The pod and its volume are gone.
    pub(super) fn lose(&mut self, name: &str) {
        self.pods.remove(name);
        self.volumes.remove(name);
    }

    /// The volume loses its data and keeps its identity.
    fn wipe(&mut self, name: &str) {
        if self.durable
            && let Some(volume) = self.volumes.get_mut(name)
        {
            volume.data = None;
            self.pods.remove(name);
        }
    }

    pub(super) fn stop(&mut self, name: &str) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.stopped = true;
            pod.running = false;
        }
        self.elect();
    }

    pub(super) fn configure(&mut self, config: u64, broken: bool) {
        self.config = config;
        self.broken = broken;
    }

    pub(super) fn heal(&mut self) {
        self.broken = false;
        for pod in self.pods.values_mut() {
            pod.stopped = false;
        }
    }

    pub(super) fn make_leader(&mut self, name: &str) {
        let id = self.pods.get(name).and_then(|_| self.id_of(name)).expect("runs");
        self.etcds.values_mut().next_back().expect("one").leader = id;
    }

    // === the kubelet and etcd itself ===

    pub(super) fn kubelet(&mut self) {
        let orphans: Vec<String> =
            self.pods.keys().filter(|name| !self.sets.contains_key(*name)).cloned().collect();
        for name in orphans {
            // Volumes are deleted with the StatefulSet.
            self.lose(&name);
        }
        self.volumes.retain(|name, _| self.sets.contains_key(name));
        for (name, set) in self.sets.clone() {
            self.last_id += 1;
            let identity = format!("data-{}", self.last_id);
            self.volumes.entry(name.clone()).or_insert(Volume { identity, data: None });
            self.pods.entry(name.clone()).or_insert(Pod {
                member: set.member,
                config: set.config,
                running: false,
                stopped: false,
                empty: false,
                crashes: 0,
            });
            self.start(&name);
        }
        self.elect();
    }

    fn start(&mut self, name: &str) {
        let pod = self.pods.get(name).expect("just made").clone();
        // Config 1 while broken is an image that cannot be pulled.
        let unpullable = pod.config == 1 && self.broken;
        let data = self.volumes[name].data;
        let (running, data, empty) = match (data, &pod.member.start) {
            _ if pod.stopped || unpullable => (false, data, pod.empty),
            (Some((incarnation, id)), _) => (self.lists(incarnation, id), data, false),
            (None, Start::Seed) => {
                let id = self.start_cluster(name, pod.member.incarnation);
                (true, Some((pod.member.incarnation, id)), false)
            }
            (None, Start::Join { initial_cluster }) => {
                let joined = self.join(name, pod.member.incarnation, initial_cluster);
                (joined.is_some(), joined.map(|id| (pod.member.incarnation, id)), false)
            }
            (None, Start::Sealed { .. }) => (false, None, true),
        };
        self.volumes.get_mut(name).expect("just made").data = data;
        let pod = self.pods.get_mut(name).expect("just made");
        pod.empty = empty;
        let failed = !running && !pod.stopped && !unpullable;
        pod.crashes = if failed { pod.crashes + 1 } else { 0 };
        pod.running = running;
    }

    fn lists(&self, incarnation: u64, id: u64) -> bool {
        self.etcds.get(&incarnation).is_some_and(|etcd| etcd.members.iter().any(|m| m.id == id))
    }

    fn start_cluster(&mut self, name: &str, incarnation: u64) -> u64 {
        let others =
            self.volumes.iter().filter(|(other, _)| *other != name).filter_map(|(_, v)| v.data);
        assert!(
            others.into_iter().all(|(of, _)| of != incarnation),
            "a seed started a second cluster under the token of one that still has data"
        );
        self.last_id += 1;
        let id = self.last_id;
        let peer_url = naming().peer_url(name);
        let record = Record { id, name: name.into(), peer_url, learner: false };
        self.etcds.insert(incarnation, Etcd { members: vec![record], leader: id });
        id
    }

    fn join(&mut self, name: &str, incarnation: u64, list: &[(String, String)]) -> Option<u64> {
        let url = naming().peer_url(name);
        if !self.has_quorum(incarnation) {
            return None;
        }
        let etcd = self.etcds.get_mut(&incarnation)?;
        let known: BTreeSet<&String> = etcd.members.iter().map(|m| &m.peer_url).collect();
        if known != list.iter().map(|(_, url)| url).collect() {
            return None;
        }
        let record = etcd.members.iter_mut().find(|m| m.peer_url == url)?;
        assert!(record.learner, "a wiped voter joined again under its old identity");
        if !record.name.is_empty() {
            return None; // A wiped learner: raft panics because its log is gone.
        }
        record.name = name.into();
        Some(record.id)
    }

    fn id_of(&self, name: &str) -> Option<u64> {
        self.volumes.get(name)?.data.map(|(_, id)| id)
    }

    fn lives(&self, incarnation: u64, id: u64) -> bool {
        let holds =
            |name: &str| self.volumes.get(name).is_some_and(|v| v.data == Some((incarnation, id)));
        self.pods.iter().any(|(name, pod)| pod.running && holds(name))
    }

    fn has_quorum(&self, incarnation: u64) -> bool {
        let Some(etcd) = self.etcds.get(&incarnation) else { return false };
        let voters: Vec<&Record> = etcd.members.iter().filter(|m| !m.learner).collect();
        voters.iter().filter(|m| self.lives(incarnation, m.id)).count() > voters.len() / 2
    }

    fn elect(&mut self) {
        let incarnations: Vec<u64> = self.etcds.keys().copied().collect();
        for incarnation in incarnations {
            let quorum = self.has_quorum(incarnation);
            let etcd = &self.etcds[&incarnation];
            let may = |m: &&Record| !m.learner && self.lives(incarnation, m.id);
            let stays = etcd.members.iter().filter(may).find(|m| m.id == etcd.leader);
            let leader = stays.or_else(|| etcd.members.iter().rfind(may)).map_or(0, |m| m.id);
            let leader = if quorum { leader } else { 0 };
            self.etcds.get_mut(&incarnation).expect("listed").leader = leader;
        }
    }

    // === what the plan reads, what it does ===

    pub(super) fn state(&self) -> EtcdState {
        let ordinal = |name: &String| naming().ordinal(name);
        let used_ordinals =
            self.pods.keys().chain(self.volumes.keys()).filter_map(ordinal).collect();
        let of_pods = self.pods.values().map(|pod| pod.member.incarnation);
        let of_sets = self.sets.values().map(|set| set.member.incarnation);
        EtcdState {
            wanted: self.wanted,
            naming: naming(),
            slots: self.sets.iter().map(|(name, set)| self.slot(name, set)).collect(),
            used_ordinals,
            last_incarnation: of_pods.chain(of_sets).max().unwrap_or(0),
        }
    }

    fn slot(&self, name: &str, set: &Set) -> Slot {
        let pod = self.pods.get(name);
        let volume = self.volumes.get(name);
        let sealed = matches!(set.member.start, Start::Sealed { .. });
        let outdated = pod.is_some_and(|pod| {
            pod.config != self.config || (!sealed && pod.member.start != set.member.start)
        });
        let other_data = match (&set.member.start, volume) {
            (Start::Sealed { data }, Some(volume)) => *data != volume.identity,
            (Start::Sealed { .. }, None) => true,
            _ => false,
        };
        let lost = if other_data || (sealed && pod.is_some_and(|pod| pod.empty)) {
            Some(Loss::Data)
        } else if pod.is_some_and(|pod| pod.crashes > 4) {
            Some(Loss::Crashes)
        } else {
            None
        };
        Slot {
            name: name.into(),
            incarnation: set.member.incarnation,
            start: set.member.start.clone(),
            terminating: false,
            data: volume.map(|volume| volume.identity.clone()),
            durable: self.durable,
            lost,
            outdated,
            pod: pod.map(|_| name.to_owned()),
            trouble: None,
            status: pod.filter(|pod| pod.running).and_then(|_| self.status(name)),
        }
    }

    fn status(&self, name: &str) -> Option<MemberStatus> {
        let (incarnation, member_id) = self.volumes.get(name)?.data?;
        let etcd = self.etcds.get(&incarnation)?;
        let learner = etcd.members.iter().find(|m| m.id == member_id)?.learner;
        Some(MemberStatus {
            cluster_id: incarnation,
            member_id,
            leader: etcd.leader,
            learner,
            applied: 1,
            errors: vec![],
            members: if learner { vec![] } else { etcd.members.clone() },
        })
    }

    /// Makes the first `writes` of the plan's writes, in the operator's order.
    pub(super) fn apply(&mut self, plan: &Plan, mut writes: u64) {
        self.assert_rebuilds_only_what_is_lost(plan);
        let mut write = || {
            let alive = writes > 0;
            writes = writes.saturating_sub(1);
            alive
        };
        for member in &plan.members {
            let set = Set { member: member.clone(), config: self.config };
            if !write() {
                return;
            }
            self.sets.insert(member.name.clone(), set);
        }
        let extra: Vec<String> = self.sets.keys().cloned().collect();
        let wanted: BTreeSet<&String> = plan.members.iter().map(|member| &member.name).collect();
        for name in extra.iter().filter(|name| !wanted.contains(name)) {
            if !write() {
                return;
            }
            self.sets.remove(name);
        }
        if write() {
            self.step(&plan.step);
        }
        self.elect();
    }

    fn step(&mut self, step: &Step) {
        let Some(newest) = self.sets.values().map(|set| set.member.incarnation).max() else {
            return;
        };
        if let Step::Restart { pod } = step {
            return self.delete_pod(pod);
        }
        if !self.has_quorum(newest) {
            return;
        }
        self.last_id += 1;
        let id = self.last_id;
        let etcd = self.etcds.get_mut(&newest).expect("has a quorum");
        match step {
            Step::AddLearner { peer_url, .. } => {
                assert!(etcd.members.iter().all(|m| !m.learner), "two learners");
                assert!(etcd.members.iter().all(|m| m.peer_url != *peer_url), "a name in use");
                etcd.members.push(Record {
                    id,
                    name: String::new(),
                    peer_url: peer_url.clone(),
                    learner: true,
                });
            }
            Step::Promote { id, .. } => {
                let learner = etcd.members.iter_mut().find(|m| m.id == *id).expect("listed");
                learner.learner = false;
            }
            Step::Remove { id, .. } => etcd.members.retain(|m| m.id != *id),
            Step::Settled | Step::Wait | Step::Restart { .. } => {}
        }
        assert!(self.has_quorum(newest), "{step:?} broke the quorum: {self:?}");
    }

    fn assert_rebuilds_only_what_is_lost(&self, plan: &Plan) {
        let Some(now) = self.sets.values().map(|set| set.member.incarnation).max() else { return };
        if plan.members.iter().all(|member| member.incarnation == now) {
            return;
        }
        let Some(etcd) = self.etcds.get(&now) else { return };
        // Data counts while its StatefulSet exists: the volume is deleted with it.
        let kept = |id: u64| {
            self.sets.keys().any(|name| {
                self.volumes.get(name).is_some_and(|volume| volume.data == Some((now, id)))
            })
        };
        let voters: Vec<&Record> = etcd.members.iter().filter(|m| !m.learner).collect();
        let left = voters.iter().filter(|m| kept(m.id)).count();
        assert!(left <= voters.len() / 2, "rebuilt with {left} voters left: {plan:?} in {self:?}");
    }

    pub(super) fn live_voters(&self) -> usize {
        let (incarnation, etcd) = self.newest();
        etcd.members.iter().filter(|m| !m.learner && self.lives(incarnation, m.id)).count()
    }

    fn newest(&self) -> (u64, &Etcd) {
        let newest = self.sets.values().map(|set| set.member.incarnation).max().expect("some");
        (newest, &self.etcds[&newest])
    }

    pub(super) fn assert_settled(&self, plan: &Plan) {
        assert_eq!(self.live_voters(), self.wanted);
        assert_eq!(plan.members.len(), self.wanted);
        let (incarnation, etcd) = self.newest();
        assert_eq!(etcd.members.len(), self.wanted);
        for member in &plan.members {
            assert_eq!(member.incarnation, incarnation);
            assert!(matches!(member.start, Start::Sealed { .. }));
            assert_eq!(self.pods[&member.name].config, self.config, "an old configuration");
        }
    }
}
