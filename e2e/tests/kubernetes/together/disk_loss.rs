//! etcd loses its volumes while members serve: reads go on, and a new registry fills itself.

use std::time::Instant;

use crate::etcd::Etcd;
use crate::world::{durable_sample, together_after};

const PER_SECOND: u32 = 300;

#[test]
fn etcd_loses_its_disks_and_no_read_fails() {
    let (world, shop) = together_after(|world| world.own_shop("disks", &durable_sample()));
    let etcd = Etcd::of(&world, &shop);
    let mut id = etcd.wait_complete();
    for count in [2, 3] {
        let reader = shop.reader(PER_SECOND);
        let begin = Instant::now();
        etcd.lose_volumes(count);
        let lost = begin.elapsed();
        // Two of three are a quorum, so a registry that is complete again is a new etcd cluster.
        let (new_id, complete) = etcd.wait_complete_after(begin, Some(id));
        etcd.wait_three_voters();
        shop.wait_ready();
        id = new_id;
        let what = format!(
            "{count} of 3 etcd members deleted with their volumes (gone after {:.1} s): a new etcd \
             cluster has every member and group after {:.1} s, three voters and Ready after \
             {:.1} s",
            lost.as_secs_f64(),
            complete.as_secs_f64(),
            begin.elapsed().as_secs_f64()
        );
        reader.expect_no_failures(&what);
    }
    etcd.wait_three_claims();
}
