//! The `larder` program as a user meets it: real processes, real ports, golden outputs.
//! `UPDATE_GOLDEN=1 cargo test -p larder-cli` writes the golden files.

mod bench;
mod edits;
mod inspect;
mod rig;
mod tags;
mod tls;
mod up;
mod usage;
mod warm;
