//! Owns the objects of the members, one file each. They never name another cluster's objects.

pub mod config_map;
pub mod pdb;
pub mod secret;
pub mod service;
pub mod statefulset;
