//! What two Larder processes agree on: the gRPC services, the registry's keys and values, the
//! files that the operator writes and members read.
//!
//! Everything here is a contract between versions. Change it only by adding, and note it in the
//! changelog. Start at [`v1`] for the wire, [`registry`] for what stands in etcd, [`config`] for
//! the node's file and [`contract`] for a group's.
//!
//! This crate does no input or output and reads no clock.

pub mod config;
pub mod contract;
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

/// The compiled descriptors of every service here, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
