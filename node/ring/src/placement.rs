//! The choice of placement algorithm and its parameters.

use crate::hash::HashKind;

/// Default number of slots of a rendezvous table. With 50 members, each wins 5,243 slots give or
/// take 1.4 %, which keeps a member's share within 5 % of its target by more than three standard
/// deviations. The table takes 512 KiB.
pub const DEFAULT_SLOTS: u32 = 1 << 18;

/// The placement algorithm. All members of a cluster and its ring-aware clients must use the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Placement {
    /// Weighted rendezvous hashing over a table of slots: even shares and minimal movement.
    Rendezvous {
        /// Size of the table, at least 1; usually [`DEFAULT_SLOTS`].
        slots: u32,
    },
    /// Consistent hashing with virtual nodes.
    Ring {
        /// Tokens of a member of [`NOMINAL_WEIGHT`], at least 1.
        virtual_nodes: u32,
        /// Hash function for keys and tokens.
        hash: HashKind,
    },
}

impl Default for Placement {
    fn default() -> Placement {
        Placement::Rendezvous { slots: DEFAULT_SLOTS }
    }
}
