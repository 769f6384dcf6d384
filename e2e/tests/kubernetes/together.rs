//! Tests that run at the same time.

mod disk_loss;
mod external_etcd;
mod installing;
mod lifecycle;
mod members;
mod reading;
mod resources;
