//! The protocol between Larder processes: the gRPC services, the registry's keys and values, and
//! the files that the operator writes and members read.
//!
//! Everything here is a contract between versions. Change it only by addition, and note each change
//! in the changelog. Start at [`v1`] for the services, [`registry`] for the values in etcd,
//! [`config`] for the node's configuration file and [`contract`] for a group's contract.
//!
//! This crate performs no I/O and reads no clock.

pub mod config;
pub mod contract;
pub mod explanation;
pub mod identity;
pub mod keys;
pub mod names;
mod placement;
pub mod registry;

/// `larder.v1`: the services of a member.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("larder.v1");
}

/// `groupcachepb`: the peer protocol of the groupcache family.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod groupcachepb {
    tonic::include_proto!("groupcachepb");
}

/// The compiled descriptors of all services, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
