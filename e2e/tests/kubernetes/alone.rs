//! Tests that stop or reconfigure the operator.

mod cluster_wide;
mod etcd_outage;
mod helm_test_fails;
