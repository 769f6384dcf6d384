//! Owns the objects of a managed etcd: a StatefulSet with one replica per member, two Services, one
//! PodDisruptionBudget.
//!
//! A member is not a replica of the others: each has its own identity, and the plan decides which
//! may exist. Learners need no label of their own to stay out of the client Service and the budget:
//! both count only ready pods, and etcd's `/readyz` is false for a learner (check `non_learner`).

pub mod pdb;
pub mod service;
pub mod statefulset;

pub use self::statefulset::stateful_set;
