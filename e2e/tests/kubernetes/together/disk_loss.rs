//! etcd loses its volumes while members serve: reads go on, and a new registry fills itself.
//!
//! Each loss has a cluster of its own, so the two, the longest tests of all, run side by side.

use std::time::Instant;

use crate::etcd::Etcd;
use crate::world::{durable_sample, together_after};

const PER_SECOND: u32 = 300;

/// Two of three are a quorum, so a registry that is complete again is a new etcd cluster.
#[test]
fn etcd_loses_two_of_three_disks_and_no_read_fails() {
    lose_disks("twodisks", 2);
}

#[test]
fn etcd_loses_all_disks_and_no_read_fails() {
    lose_disks("alldisks", 3);
}

fn lose_disks(namespace: &str, count: usize) {
    let (world, shop) = together_after(|world| world.own_shop(namespace, &durable_sample()));
    let etcd = Etcd::of(&world, &shop);
    let id = etcd.wait_complete();
    let reader = shop.reader(PER_SECOND);
    let begin = Instant::now();
    etcd.lose_volumes(count);
    let lost = begin.elapsed();
    let (_, complete) = etcd.wait_complete_after(begin, Some(id));
    etcd.wait_three_voters();
    shop.wait_ready();
    let what = format!(
        "{count} of 3 etcd members deleted with their volumes (gone after {:.1} s): a new etcd \
         cluster has every member and group after {:.1} s, three voters and Ready after {:.1} s",
        lost.as_secs_f64(),
        complete.as_secs_f64(),
        begin.elapsed().as_secs_f64()
    );
    reader.expect_no_failures(&what);
    etcd.wait_three_claims();
}
