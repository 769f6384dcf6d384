//! Placement: which member owns a key.
//!
//! A [`Ring`] is built from a [`Placement`] and a set of [`Member`]s and is immutable; a change of
//! members builds a new one. Every process that builds a ring from the same set, in any order and
//! on any machine, computes the same owners. That is a wire contract, guarded by `tests/golden`. A
//! lookup costs one hash and one table access and allocates nothing.
//!
//! ```
//! use larder_ring::{Member, Placement, Ring, diff};
//!
//! let three = Ring::new(&Placement::default(), ["shop-0", "shop-1", "shop-2"].map(Member::new));
//! let owner = three.owner("students", b"Tom").expect("a ring with members");
//! println!("{} owns Tom", owner.name);
//!
//! let four = Ring::new(&Placement::default(), (0..4).map(|n| Member::new(format!("shop-{n}"))));
//! assert!((diff(&three, &four).share - 0.25).abs() < 0.0125); // only the new member's share moves
//! ```
//!
//! Members are identified by name, the pod's name in its StatefulSet: a restart changes the address
//! and moves no key. This crate does not know whether a member is alive.
//!
//! Start at [`Ring::new`]. The two algorithms are in `rendezvous.rs` and `tokens.rs`, the hash
//! functions in `hash.rs`.

mod diff;
mod hash;
mod member;
mod placement;
mod rendezvous;
mod ring;
mod tokens;

pub use diff::{Diff, Move, diff};
pub use hash::HashKind;
pub use member::{Member, NOMINAL_WEIGHT};
pub use placement::{DEFAULT_SLOTS, Placement};
pub use ring::Ring;
