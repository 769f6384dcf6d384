//! The faults: typed, drawn from a seed, each with a beginning and an end.

use std::fmt;

use larder_runtime::random::Random;
use parking_lot::{Mutex, MutexGuard};

/// First retransmission of a lost segment, ms; it doubles with each further loss.
pub(crate) const RETRANSMISSION_MS: u64 = 200;
/// Losses in a row after which a segment gets through.
pub(crate) const MOST_LOSSES: u32 = 3;

/// The faults in force at one part of a world. Two equal ones end one after the other.
#[derive(Debug, Default)]
pub(crate) struct ActiveFaults(Mutex<Vec<Fault>>);

/// A member by its place in the world.
pub(crate) type Slot = usize;

/// One kind of fault with its parameters. Links are directed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// Each message between two members takes this much longer, ms.
    Delay { from: Slot, to: Slot, ms: u64 },
    /// Messages overtake each other: each takes up to this much longer, ms.
    Reorder { from: Slot, to: Slot, ms: u64 },
    /// A share of the messages is lost and sent again, percent.
    Loss { from: Slot, to: Slot, percent: u64 },
    /// Calls fail at once, as after a reset of the connection.
    Reset { from: Slot, to: Slot },
    /// Nothing gets through in one direction.
    OneWay { from: Slot, to: Slot },
    /// Nothing gets through in either direction.
    Partition { a: Slot, b: Slot },
    /// One member reaches none of the others, and the reverse.
    Isolation { member: Slot },
    /// One member does not reach the registry.
    RegistryCut { member: Slot },
    /// What the registry sends to one member arrives this much later, ms.
    WatchLag { member: Slot, ms: u64 },
    /// The registry answers nobody; no lease expires meanwhile.
    RegistryAway,
    /// The registry ends one member's lease.
    LeaseLoss { member: Slot },
    /// The registry ends every lease.
    AllLeasesLost,
    /// The registry discards changes that no watch has delivered yet.
    Compaction,
    /// The registry is empty again, under another id. Contracts are written again at once.
    DataLoss,
    /// A process ends without notice and starts again when the fault ends.
    Crash { member: Slot, same_uid: bool },
    /// A process leaves in order and starts again, as another pod, when the fault ends.
    Restart { member: Slot },
    /// A process does not run, as after SIGSTOP.
    Freeze { member: Slot },
    /// The origin takes this much longer, ms.
    SlowOrigin { ms: u64 },
    /// The origin fails a share of the loads, percent.
    FailingOrigin { percent: u64 },
    /// A group's contract names another origin from then on.
    OriginChange { group: usize },
}

/// A fault and its time, in ms after the start of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PlannedFault {
    pub(crate) at_ms: u64,
    pub(crate) lasts_ms: u64,
    pub(crate) fault: Fault,
}

impl ActiveFaults {
    pub(crate) fn begin(&self, fault: Fault) {
        self.0.lock().push(fault);
    }

    pub(crate) fn end(&self, fault: Fault) {
        let mut faults = self.0.lock();
        if let Some(index) = faults.iter().position(|active| *active == fault) {
            faults.remove(index);
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Fault>> {
        self.0.lock()
    }
}

impl Fault {
    /// Number of kinds, which [`Fault::draw`] draws with equal probability.
    const KINDS: u64 = 20;

    pub(crate) fn draw(random: &Random, members: usize, groups: usize) -> Self {
        let below =
            |bound: usize| usize::try_from(random.below(bound as u64)).expect("below a usize");
        let member = below(members);
        let other = (member + 1 + below(members - 1)) % members;
        let (from, to) = (member, other);
        let share = || 10 + random.below(91);
        match random.below(Self::KINDS) {
            0 => Self::Delay { from, to, ms: 50 + random.below(950) },
            1 => Self::Reorder { from, to, ms: 20 + random.below(480) },
            2 => Self::Loss { from, to, percent: share() },
            3 => Self::Reset { from, to },
            4 => Self::OneWay { from, to },
            5 => Self::Partition { a: from, b: to },
            6 => Self::Isolation { member },
            7 => Self::RegistryCut { member },
            8 => Self::WatchLag { member, ms: 100 + random.below(2_900) },
            9 => Self::RegistryAway,
            10 => Self::LeaseLoss { member },
            11 => Self::AllLeasesLost,
            12 => Self::Compaction,
            13 => Self::DataLoss,
            14 => Self::Crash { member, same_uid: random.below(2) == 0 },
            15 => Self::Restart { member },
            16 => Self::Freeze { member },
            17 => Self::SlowOrigin { ms: 50 + random.below(2_950) },
            18 => Self::FailingOrigin { percent: share() },
            _ => Self::OriginChange { group: below(groups) },
        }
    }

    /// The kind, for the table of a run.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Delay { .. } => "delay",
            Self::Reorder { .. } => "reorder",
            Self::Loss { .. } => "loss",
            Self::Reset { .. } => "reset",
            Self::OneWay { .. } => "one-way partition",
            Self::Partition { .. } => "two-way partition",
            Self::Isolation { .. } => "isolation",
            Self::RegistryCut { .. } => "registry cut",
            Self::WatchLag { .. } => "watch lag",
            Self::RegistryAway => "registry away",
            Self::LeaseLoss { .. } => "lease loss",
            Self::AllLeasesLost => "all leases lost",
            Self::Compaction => "compaction",
            Self::DataLoss => "registry data loss",
            Self::Crash { .. } => "crash",
            Self::Restart { .. } => "restart",
            Self::Freeze { .. } => "freeze",
            Self::SlowOrigin { .. } => "slow origin",
            Self::FailingOrigin { .. } => "failing origin",
            Self::OriginChange { .. } => "change of origin",
        }
    }

    /// The process that it stops, if any. One process has one such fault at a time.
    pub(crate) fn stops(self) -> Option<Slot> {
        match self {
            Self::Crash { member, .. } | Self::Restart { member } | Self::Freeze { member } => {
                Some(member)
            }
            _ => None,
        }
    }

    pub(crate) fn longest_delay_ms(self) -> u64 {
        match self {
            Self::Delay { ms, .. } | Self::Reorder { ms, .. } => ms,
            Self::Loss { .. } => RETRANSMISSION_MS * ((1 << MOST_LOSSES) - 1),
            _ => 0,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delay { from, to, ms } => write!(f, "delay of {ms} ms from m{from} to m{to}"),
            Self::Reorder { from, to, ms } => {
                write!(f, "reordering within {ms} ms from m{from} to m{to}")
            }
            Self::Loss { from, to, percent } => {
                write!(f, "loss of {percent} % from m{from} to m{to}")
            }
            Self::Reset { from, to } => write!(f, "connections from m{from} to m{to} reset"),
            Self::OneWay { from, to } => write!(f, "no message from m{from} to m{to}"),
            Self::Partition { a, b } => write!(f, "no message between m{a} and m{b}"),
            Self::Isolation { member } => {
                write!(f, "no message between m{member} and other members")
            }
            Self::RegistryCut { member } => write!(f, "m{member} cut off from the registry"),
            Self::WatchLag { member, ms } => {
                write!(f, "m{member} hears of the registry {ms} ms late")
            }
            Self::RegistryAway => write!(f, "registry does not answer"),
            Self::LeaseLoss { member } => write!(f, "lease of m{member} ended"),
            Self::AllLeasesLost => write!(f, "all leases ended"),
            Self::Compaction => write!(f, "registry compacted ahead of its watches"),
            Self::DataLoss => write!(f, "registry lost all data"),
            Self::Crash { member, same_uid: true } => write!(f, "container of m{member} crashes"),
            Self::Crash { member, same_uid: false } => write!(f, "pod of m{member} crashes"),
            Self::Restart { member } => write!(f, "m{member} leaves and starts again"),
            Self::Freeze { member } => write!(f, "m{member} frozen"),
            Self::SlowOrigin { ms } => write!(f, "origin {ms} ms slower"),
            Self::FailingOrigin { percent } => write!(f, "origin fails {percent} % of the loads"),
            Self::OriginChange { group } => write!(f, "origin of g{group} changes"),
        }
    }
}

/// Sorts by time, and leaves out a fault that stops a process while another one does.
pub(crate) fn in_order(mut faults: Vec<PlannedFault>) -> Vec<PlannedFault> {
    faults.sort_by_key(|planned| planned.at_ms);
    let mut kept: Vec<PlannedFault> = Vec::with_capacity(faults.len());
    for planned in faults {
        let stops = planned.fault.stops();
        let overlaps = |earlier: &PlannedFault| {
            stops.is_some()
                && earlier.fault.stops() == stops
                && planned.at_ms <= earlier.at_ms + earlier.lasts_ms
        };
        if !kept.iter().any(overlaps) {
            kept.push(planned);
        }
    }
    kept
}
