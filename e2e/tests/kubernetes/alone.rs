//! Tests that stop or reconfigure the operator.

mod cluster_wide;
mod operator_away;
