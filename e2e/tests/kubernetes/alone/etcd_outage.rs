//! All of etcd and the operator are away while members serve.

use std::time::{Duration, Instant};

use crate::etcd::Etcd;
use crate::world::{alone_after, durable_sample};

const PER_SECOND: u32 = 300;
/// Longer than the members' leases, which last ten seconds.
const AWAY: Duration = Duration::from_secs(14);

#[test]
fn reads_go_on_without_etcd_and_the_operator() {
    let (world, shop) = alone_after(|world| world.own_shop("outage", &durable_sample()));
    let etcd = Etcd::of(&world, &shop);
    let id = etcd.wait_complete();
    let reader = shop.reader(PER_SECOND);
    world.scale_operator(0);
    etcd.stop();
    let begin = Instant::now();
    while begin.elapsed() < AWAY {
        reader.wait_for(reader.reads() + u64::from(PER_SECOND));
    }
    etcd.check_no_pods().expect("nothing brings etcd back without the operator");
    let away = begin.elapsed();
    world.scale_operator(2);
    let (id_after, complete) = etcd.wait_complete_after(Instant::now(), None);
    assert_eq!(id, id_after, "its volumes were not lost");
    etcd.wait_three_voters();
    shop.wait_ready();
    let what = format!(
        "all of etcd and the operator away for {:.1} s: the registry complete {:.1} s after the \
         operator's return",
        away.as_secs_f64(),
        complete.as_secs_f64()
    );
    reader.expect_no_failures(&what);
}
