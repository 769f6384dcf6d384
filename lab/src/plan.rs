//! What one seed stands for: the cluster, its groups, its clients and its faults. Pure; equal seeds
//! give equal plans.

use larder_proto::contract::Freshness;
use larder_runtime::random::Random;

use crate::fault::{self, Fault, PlannedFault};

/// When the faults end. The time before the first fault is part of it.
const FAULTS_END_MS: (u64, u64) = (6_000, 16_000);
/// Time of healthy traffic before the first fault.
const CALM_MS: u64 = 1_500;

/// Most by which a system clock is wrong, ms, in either direction.
const MAX_SKEW_MS: i64 = 5_000;

/// One simulated world.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) members: usize,
    /// Virtual nodes of the ring; `None` for rendezvous placement.
    pub(crate) virtual_nodes: Option<u32>,
    pub(crate) lease_s: u64,
    /// How far each member's system clock is ahead, ms. The versions of values start from it.
    pub(crate) clock_skew_ms: Vec<i64>,
    pub(crate) groups: Vec<GroupPlan>,
    pub(crate) readers: usize,
    pub(crate) writers: usize,
    /// Mean time between two reads of a reader, and between two writes of a writer, ms.
    pub(crate) read_pause_ms: u64,
    pub(crate) write_pause_ms: u64,
    /// One way between two processes when nothing is wrong, ms: least and most.
    pub(crate) delay_ms: (u64, u64),
    /// An origin's answer when nothing is wrong, ms: least and most.
    pub(crate) origin_ms: (u64, u64),
    pub(crate) faults: Vec<PlannedFault>,
    /// From here on nothing is wrong, ms after the start of the traffic.
    pub(crate) healed_ms: u64,
}

/// One group of keys.
#[derive(Debug, Clone)]
pub(crate) struct GroupPlan {
    pub(crate) name: &'static str,
    pub(crate) keys: usize,
    pub(crate) freshness: Freshness,
    /// Values have tags. An absent key has none, so no key of such a group is ever absent.
    pub(crate) is_tagged: bool,
    pub(crate) concurrency: u32,
    pub(crate) timeout_ms: u64,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let random = Random::seeded(seed);
        let pick = |(least, most): (u64, u64)| least + random.below(most - least + 1);
        let members = usize::try_from(pick((2, 5))).expect("at most 5");
        let virtual_nodes = (random.below(64) > 0).then_some(32);
        let lease_s = pick((2, 4));
        let names = ["students", "courses"];
        let groups: Vec<GroupPlan> = names[..usize::try_from(pick((1, 2))).expect("1 or 2")]
            .iter()
            .map(|name| GroupPlan {
                name,
                keys: usize::try_from(pick((2, 12))).expect("at most 12"),
                freshness: freshness(&random),
                is_tagged: random.below(2) == 0,
                concurrency: u32::try_from(pick((4, 32))).expect("at most 32"),
                timeout_ms: pick((200, 2_000)),
            })
            .collect();
        let healed_ms = pick(FAULTS_END_MS);
        // One world in eight is healthy throughout: there the strictest checks apply all the time.
        let count = if random.below(8) == 0 { 0 } else { pick((1, 4)) };
        let mut faults: Vec<_> = (0..count)
            .map(|_| {
                let at_ms = pick((CALM_MS, healed_ms - 1_000));
                let lasts_ms = pick((50, healed_ms - at_ms));
                let fault = Fault::draw(&random, members, groups.len());
                PlannedFault { at_ms, lasts_ms, fault }
            })
            .collect();
        let mut healed_ms = healed_ms;
        if members == 2 && count > 0 && random.below(4) == 0 {
            faults = unseen_start(&pick, lease_s);
            healed_ms = healed_ms.max(faults[0].at_ms + faults[0].lasts_ms);
        }
        let skew = |_| random.below(2 * MAX_SKEW_MS.unsigned_abs() + 1).cast_signed() - MAX_SKEW_MS;
        Self {
            seed,
            members,
            virtual_nodes,
            lease_s,
            clock_skew_ms: (0..members).map(skew).collect(),
            groups,
            readers: usize::try_from(pick((2, 5))).expect("at most 5"),
            writers: 1,
            read_pause_ms: pick((20, 120)),
            write_pause_ms: pick((200, 1_200)),
            delay_ms: (0, pick((0, 4))),
            origin_ms: (1, pick((1, 60))),
            faults: fault::in_order(faults),
            healed_ms,
        }
    }

    /// The longest time between the answer of an owner and its arrival when a fault delays it, ms.
    pub(crate) fn longest_delay_ms(&self) -> u64 {
        let faults = self.faults.iter().map(|planned| planned.fault.longest_delay_ms());
        self.delay_ms.1 + faults.sum::<u64>()
    }
}

/// One of two members is cut off from the registry for longer than its lease. The other one starts
/// again meanwhile: neither sees the other.
fn unseen_start(pick: &impl Fn((u64, u64)) -> u64, lease_s: u64) -> Vec<PlannedFault> {
    let member = usize::try_from(pick((0, 1))).expect("one of two");
    let (cut_ms, lease_ms) = (pick((CALM_MS, CALM_MS + 1_500)), lease_s * 1_000);
    let unseen_ms = cut_ms + lease_ms + 500;
    let began_ms = pick((cut_ms, unseen_ms - 1_000));
    let starts_ms = pick((unseen_ms, unseen_ms + 1_500));
    let (cut, restart) = (Fault::RegistryCut { member }, Fault::Restart { member: 1 - member });
    vec![
        PlannedFault { at_ms: cut_ms, lasts_ms: starts_ms + 4_000 - cut_ms, fault: cut },
        PlannedFault { at_ms: began_ms, lasts_ms: starts_ms - began_ms, fault: restart },
    ]
}

fn freshness(random: &Random) -> Freshness {
    let one_of = |choices: &[u64]| {
        choices[usize::try_from(random.below(choices.len() as u64)).expect("an index")]
    };
    Freshness {
        ttl_ms: one_of(&[300, 1_000, 3_000, 10_000, 60_000]),
        jitter_percent: u32::try_from(one_of(&[0, 10, 50])).expect("a percentage"),
        stale_while_revalidate_ms: one_of(&[0, 0, 200, 1_000]),
        stale_if_error_ms: one_of(&[0, 0, 2_000, 60_000]),
        negative_ttl_ms: one_of(&[0, 200, 2_000, 10_000]),
        early_refresh_percent: 0,
    }
}
