//! Owns the objects of the members, one file each.

pub mod config_map;
pub mod pdb;
pub mod secret;
pub mod service;
pub mod statefulset;
