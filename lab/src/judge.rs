//! Judges a world while it runs: what readers may see, what the origin may be asked, and what may
//! travel.
//!
//! The judge knows the truth and every call; the members know nothing of it. Each rule is a check
//! with a name ([`Check`]). A rule that faults weaken says so where it is applied. Start at
//! [`Judge::read_ended`].
//!
//! `rules` names the rules, `state` holds what is known, `keys` judges what readers see and `loads`
//! what the origin is asked.

mod keys;
mod loads;
mod rules;
mod state;

pub(crate) use keys::{Answered, Seen};
pub(crate) use rules::{Check, EPSILON_MS, Violation};
pub(crate) use state::{Figures, Judge, Loader};
