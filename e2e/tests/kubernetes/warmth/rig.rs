//! Drives one change: fills the cache, reads at a constant rate before, during and after the
//! change, and judges the trace.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use larder_e2e::poll;
use larder_e2e::warmth::bars::Bar;
use larder_e2e::warmth::figures::Figures;
use larder_e2e::warmth::keys::Shape;
use larder_e2e::warmth::load::{Load, Read};
use larder_e2e::warmth::origin::Origin;
use larder_e2e::warmth::plot;
use larder_e2e::warmth::trace::{Change, Trace};

use super::changes;
use crate::shop::Shop;
use crate::world::World;

/// The CacheGroup that is read. Its values outlive every measurement, so that nothing but the
/// change makes a key of the working set cold.
const GROUP: &str = "warm";

/// How a change is measured.
pub(super) struct Plan {
    pub(super) shape: Shape,
    /// Reads before the change.
    pub(super) before: Duration,
    /// Reads after the change's begin, at most, unless the change itself takes longer.
    pub(super) after: Duration,
    /// Reads after the change's end, at least, to see that the hit ratio is back and stays.
    pub(super) settle: Duration,
    /// Folder for the plot.
    pub(super) plots: Option<PathBuf>,
}

/// The result.
pub(super) struct Measured {
    /// How far the hit ratio fell, points.
    pub(super) dip: f64,
    /// The row of the table.
    pub(super) row: String,
}

/// Measures the change of one promise. The cluster has recovered from it afterwards, except that
/// not all keys may be cached again.
pub(super) fn measure(world: &World, shop: &Shop, bar: &Bar, plan: &Plan) -> Measured {
    shop.wait_members(3);
    let origin = Origin::start(world.cluster.host());
    offer(world, shop, &origin);
    let service = shop.service_address().expect("a Service");
    let filling = Instant::now();
    let load = Load::start(&format!("{service}:7600"), GROUP, plan.shape, &origin);
    println!(
        "{}: {} keys cached in {:.1} s; load average {}",
        bar.name,
        plan.shape.keys,
        filling.elapsed().as_secs_f64(),
        load_average()
    );
    load.run_for(plan.before);
    let (change, undo) = changes::make(world, shop, &load, bar.name);
    println!(
        "{}: {} took {:.1} s",
        bar.name,
        bar.change,
        (change.end - change.begin).as_secs_f64()
    );
    observe(&load, &origin, bar, &change, plan);
    let until = Instant::now();
    let reads = load.stop();
    let trace = Trace::new(&reads, &origin.calls(), &change, until);
    drop(undo);
    report(&reads, bar, &trace, plan)
}

/// Creates the group, or gives it this origin, which empties it.
fn offer(world: &World, shop: &Shop, origin: &Origin) {
    let group = format!(
        "apiVersion: larder.dev/v1alpha1\nkind: CacheGroup\nmetadata: {{name: {GROUP}}}\nspec:\n  \
         clusterRef: {{name: shop}}\n  \
         origin: {{http: {{urlTemplate: \"{}\"}}}}\n  \
         freshness: {{ttlSeconds: 86400, jitterPercent: 0}}\n  \
         originLimits: {{concurrency: 64, timeoutMilliseconds: 5000}}\n",
        origin.url_template()
    );
    world.cluster.apply(&shop.namespace, &group).expect("accepted");
    let limit = Duration::from_secs(30);
    world.cluster.wait_true(&shop.namespace, &format!("cachegroup/{GROUP}"), "Ready", limit);
}

/// Reads on until the hit ratio has been back for a while, or the time is over.
fn observe(load: &Load, origin: &Origin, bar: &Bar, change: &Change, plan: &Plan) {
    let recovered = || {
        let trace = Trace::new(&load.reads(), &origin.calls(), change, Instant::now());
        let before = Figures::of(&trace).before;
        bar.recovered_after(&trace, before).is_some()
    };
    load.run_for(plan.settle);
    while change.begin.elapsed() < plan.after && !recovered() {
        load.run_for(Duration::from_secs(2));
    }
    // The second in which it was seen is not whole.
    load.run_for(Duration::from_secs(2));
}

fn report(reads: &[Read], bar: &Bar, trace: &Trace, plan: &Plan) -> Measured {
    let figures = Figures::of(trace);
    println!("{}: second  hit %  at the origin  calls  failed  p99 ms", bar.name);
    for second in &trace.seconds {
        let p99 = second.times.get(second.times.len() * 99 / 100).copied().unwrap_or_default();
        println!(
            "{}: {:6} {:6.1} {:14.1} {:6} {:7} {:7.1}",
            bar.name,
            second.at,
            second.hit_percent(),
            second.hit_percent_at_origin(),
            second.calls,
            second.failed,
            p99.as_secs_f64() * 1e3
        );
    }
    for (at, error) in trace.failures.iter().take(5) {
        println!("{}: failed at {at:.1} s: {error}", bar.name);
    }
    let load = load_average();
    println!("{}: {} reads; load average {load}", bar.name, reads.len());
    if let Some(folder) = &plan.plots {
        let file = folder.join(format!("{}.svg", bar.name.to_lowercase()));
        plot::draw(bar, trace, &file).expect("the plot can be written");
    }
    Measured { dip: figures.dip(), row: bar.row(trace, &figures, &load) }
}

/// Waits until nothing of the CacheCluster is left, so that it takes no processor time from the
/// next one.
pub(super) fn wait_deleted(world: &World) {
    let namespace = world.namespace("warmth");
    poll::until("the pods are gone", Duration::from_secs(90), || {
        let list = world.cluster.json(&["pods", "--namespace", &namespace])?;
        let count = list["items"].as_array().map_or(0, Vec::len);
        if count == 0 { Ok(()) } else { Err(format!("{count} pods")) }
    });
}

/// The machine's load average of the last minute.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
