//! One seed's world from its beginning to its end: start, traffic under faults, recovery, quiet, and
//! the last checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, RngSeed};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::judge::{Check, Figures, Violation};
use crate::member::Running;
use crate::panics;
use crate::plan::Plan;
use crate::traffic;
use crate::world::World;

/// Within this time a healthy cluster is whole after its start.
const START: Duration = Duration::from_secs(8);
/// Healthy traffic after the recovery.
const AFTERMATH: Duration = Duration::from_secs(3);
/// Time in which everything that the traffic started has to end.
const QUIET: Duration = Duration::from_secs(10);
/// As long as members keep the connection to one that left the ring, and a little longer.
const LONGEST_REST: Duration = Duration::from_secs(70);

/// A world's end.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) violations: Vec<Violation>,
    pub(crate) figures: Figures,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) simulated: Duration,
    /// Hash and number of the events.
    pub(crate) timeline: (u64, u64),
    pub(crate) lines: Vec<String>,
}

/// Runs a seed's world on this thread. `keep` keeps the timeline's text.
pub(crate) fn run(seed: u64, keep: bool) -> Ended {
    let plan = Plan::of(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&seed.to_le_bytes()))
        .build()
        .expect("a runtime without I/O");
    panics::begin();
    let ended = runtime.block_on(async {
        let world = World::new(plan, keep);
        let ended = play(&world).await;
        // Members and network refer to each other.
        world.around.network.close_all();
        ended
    });
    drop(runtime);
    ended
}

async fn play(world: &Arc<World>) -> Ended {
    let began = Instant::now();
    world.write_contracts();
    for slot in 0..world.plan().members {
        world.start(slot, false);
        sleep(Duration::from_millis(world.around.random.below(200))).await;
    }
    if !world.becomes_whole(START).await {
        world.judge.violate(
            Check::Convergence,
            world.timeline.now_ms(),
            "the cluster does not start",
        );
    }
    let tasks_of = |running: &Running| running.tasks.running();
    let tasks_before = world.running().iter().map(tasks_of).max().unwrap_or(0);

    let mut traffic = JoinSet::new();
    traffic::start(world, &mut traffic);
    world.run_faults(Instant::now()).await;
    world.note("everything heals");
    sleep(Duration::from_millis(world.plan().recovery_ms())).await;
    world.check_rings();
    world.judge.recovered();
    sleep(AFTERMATH).await;
    world.stopping.cancel();
    if timeout(QUIET, async { while traffic.join_next().await.is_some() {} }).await.is_err() {
        world.judge.violate(Check::Hang, world.timeline.now_ms(), "a client does not end");
    }
    for _ in 0..LONGEST_REST.as_secs() / QUIET.as_secs() {
        sleep(QUIET).await;
        if world.has_at_most(tasks_before) {
            break;
        }
    }
    world.check_rest(tasks_before);
    for text in panics::taken() {
        world.judge.violate(Check::Panic, world.timeline.now_ms(), text);
    }
    let mut faults = BTreeMap::new();
    for planned in &world.plan().faults {
        *faults.entry(planned.fault.kind()).or_default() += 1;
    }
    Ended {
        violations: world.judge.violations(),
        figures: world.judge.figures(),
        faults,
        simulated: began.elapsed(),
        timeline: world.timeline.hash(),
        lines: world.timeline.lines(),
    }
}
