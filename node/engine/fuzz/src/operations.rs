//! Decodes bytes into operations on a cache. As a fuzzer requires, every byte string is a valid
//! input, and a change of one byte changes about one operation.

use larder_engine::PolicyKind;

/// Number of groups of the cache.
pub(crate) const GROUPS: u8 = 3;
/// Number of keys of each group. Few, so that operations affect each other.
const KEYS: u8 = 24;
/// Number of tags. No two of them share a slot of the engine's table.
const TAGS: u8 = 4;
/// Maximum number of operations of one input. More cost time and find nothing new.
const MOST: usize = 400;

/// One operation. `group` and `key` are numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    Get {
        group: u8,
        key: u8,
    },
    Insert(Fill),
    BeginLoad {
        group: u8,
        key: u8,
    },
    /// Ends the oldest load of the group.
    EndLoad {
        fill: Fill,
    },
    Invalidate {
        group: u8,
        key: u8,
    },
    InvalidateTag {
        group: u8,
        tag: u8,
    },
    Clear {
        group: u8,
    },
    /// Removes the group and adds an empty one with the same name.
    Remake {
        group: u8,
    },
    Pass {
        ms: u64,
    },
    Sweep {
        budget: usize,
    },
    /// Sweeps until no work is left.
    Settle,
    Capacity {
        bytes: u64,
    },
    Policy {
        group: u8,
        policy: PolicyKind,
    },
    Bounds {
        group: u8,
        min: u64,
        max: u64,
        absent_percent: u8,
    },
    Hottest {
        group: u8,
        max: usize,
    },
}

/// An entry to insert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fill {
    pub(crate) group: u8,
    pub(crate) key: u8,
    /// Length of the value; `None` for an absent entry.
    pub(crate) len: Option<usize>,
    pub(crate) life_ms: Option<u64>,
    pub(crate) tag: Option<u8>,
}

/// The initial cache and the operations on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Input {
    pub(crate) policy: PolicyKind,
    pub(crate) shards: usize,
    pub(crate) ops: Vec<Op>,
}

impl Input {
    pub(crate) fn read(bytes: &[u8]) -> Input {
        let mut bytes = Bytes(bytes);
        let (policy, shards) = (bytes.policy(), 1 << bytes.below(3));
        let mut ops = Vec::new();
        while !bytes.0.is_empty() && ops.len() < MOST {
            ops.push(bytes.op());
        }
        Input { policy, shards, ops }
    }
}

/// The rest of the input. Reads past its end return zeros.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.next() % bound
    }

    /// A small or large number: four bits shifted by up to `shifts`.
    fn scaled(&mut self, shifts: u8) -> u64 {
        let byte = self.next();
        u64::from(byte >> 4) << ((byte & 15) % (shifts + 1))
    }

    fn policy(&mut self) -> PolicyKind {
        PolicyKind::ALL[usize::from(self.next()) % PolicyKind::ALL.len()]
    }

    fn fill(&mut self) -> Fill {
        let (group, key, kind) = (self.below(GROUPS), self.below(KEYS), self.next());
        // Up to 15 KiB: some values exceed the limit of a shard.
        let len = usize::try_from(self.scaled(10)).expect("below 16 KiB");
        let life_ms = (kind & 1 == 0).then(|| self.scaled(15));
        let tag = (kind & 2 == 0).then(|| self.below(TAGS));
        Fill { group, key, len: (kind & 28 != 0).then_some(len), life_ms, tag }
    }

    fn op(&mut self) -> Op {
        let kind = self.below(32);
        if (8..18).contains(&kind) {
            return Op::Insert(self.fill());
        }
        if kind == 19 || kind == 20 {
            return Op::EndLoad { fill: self.fill() };
        }
        let group = self.below(GROUPS);
        match kind {
            0..8 => Op::Get { group, key: self.below(KEYS) },
            18 => Op::BeginLoad { group, key: self.below(KEYS) },
            21 => Op::Invalidate { group, key: self.below(KEYS) },
            22 => Op::InvalidateTag { group, tag: self.below(TAGS) },
            23 => Op::Clear { group },
            24 => Op::Remake { group },
            25 => Op::Pass { ms: self.scaled(15) },
            26 => Op::Sweep { budget: usize::from(self.next()) },
            27 => Op::Settle,
            28 => Op::Capacity { bytes: self.scaled(13) },
            29 => Op::Policy { group, policy: self.policy() },
            30 => Op::Bounds {
                group,
                min: self.scaled(13),
                max: self.scaled(14),
                absent_percent: self.next(),
            },
            _ => Op::Hottest { group, max: usize::from(self.below(16)) },
        }
    }
}
