//! The clients: readers of few keys, and writers that change the origin and invalidate.

use std::sync::Arc;
use std::time::Duration;

use larder_node::cache::{Answer, Error};
use larder_runtime::random::Random;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::judge::{Answered, Check, EPSILON_MS, Seen};
use crate::key::{Key, Stamp};
use crate::member::Running;
use crate::world::World;

/// Deadlines of the reads, ms.
const DEADLINES_MS: [u64; 5] = [20, 200, 1_000, 2_500, 6_000];
/// An invalidation ends within this time, ms: two rounds of calls, each with its own limit.
const INVALIDATION_MS: u64 = 5_000;

pub(crate) fn start(world: &Arc<World>, clients: &mut JoinSet<()>) {
    let plan = world.plan();
    for _ in 0..plan.readers {
        let random = Random::seeded(world.around.random.next());
        clients.spawn(read_until_stopped(world.clone(), random));
    }
    for _ in 0..plan.writers {
        let random = Random::seeded(world.around.random.next());
        clients.spawn(write_until_stopped(world.clone(), random));
    }
}

async fn read_until_stopped(world: Arc<World>, random: Random) {
    while !world.stopping.is_cancelled() {
        pause(&random, world.plan().read_pause_ms).await;
        let Some(running) = any_ready(&world, &random) else { continue };
        let key = any_key(&world, &random);
        // Some readers come in crowds.
        let crowd = if random.below(16) == 0 { 8 } else { 1 };
        let limit_ms = DEADLINES_MS[index(&random, DEADLINES_MS.len())];
        let reads = (0..crowd).map(|_| read(&world, &running, key, limit_ms));
        futures::future::join_all(reads).await;
    }
}

async fn read(world: &World, running: &Running, key: Key, limit_ms: u64) {
    let slot = running.id.slot;
    let began_ms = world.timeline.now_ms();
    let ticket = world.judge.read_began(key, slot, limit_ms, began_ms);
    world.timeline.add(&("read", slot, key, limit_ms), || {
        format!("client  reads {key} at m{slot} within {limit_ms} ms")
    });
    let deadline = Instant::now() + Duration::from_millis(limit_ms);
    let group = world.plan().groups[key.group].name;
    let cache = &running.member.cache;
    let read = running.process.run(async {
        let name = key.name();
        cache.read_until(group, &name, || deadline).await
    });
    let answered = tokio::select! {
        biased;
        answer = read => answered(answer),
        () = running.process.ended() => Answered::Lost,
        () = sleep_until(deadline + Duration::from_millis(EPSILON_MS)) => {
            if !was_frozen(world, running, began_ms) {
                let text = format!("{ticket} does not end by its deadline of {limit_ms} ms");
                world.judge.violate(Check::Hang, world.timeline.now_ms(), text);
            }
            Answered::Lost
        }
    };
    let now_ms = world.timeline.now_ms();
    world.timeline.add(&("answer", slot, key, answered), || {
        format!("m{slot}      answers {key} after {} ms: {answered}", now_ms - began_ms)
    });
    world.judge.read_ended(&ticket, answered, now_ms);
}

fn answered(answer: Result<Answer, Error>) -> Answered {
    match answer {
        Err(error) => Answered::Failed(error.kind()),
        Ok(answer) => {
            let seen = match answer.present() {
                None => Seen::Absent,
                Some(value) if value.is_empty() => Seen::Empty,
                Some(value) => Stamp::parse(value).map_or(Seen::Garbage, Seen::Stamped),
            };
            Answered::Value { seen, stale: answer.is_stale() }
        }
    }
}

async fn write_until_stopped(world: Arc<World>, random: Random) {
    while !world.stopping.is_cancelled() {
        pause(&random, world.plan().write_pause_ms).await;
        let key = any_key(&world, &random);
        world.around.origin.write(key);
        // Some writers do not invalidate: there only the contract bounds what is served.
        if random.below(5) == 0 {
            continue;
        }
        let whole_group = random.below(12) == 0;
        if let Some(running) = any_ready(&world, &random) {
            invalidate(&world, &running, key, whole_group).await;
        }
    }
}

async fn invalidate(world: &World, running: &Running, key: Key, whole_group: bool) {
    let slot = running.id.slot;
    let group = &world.plan().groups[key.group];
    let keys: Vec<Key> = if whole_group {
        (0..group.keys).map(|index| Key { group: key.group, index }).collect()
    } else {
        vec![key]
    };
    let what = if whole_group { format!("group {}", key.group) } else { key.to_string() };
    let began_ms = world.timeline.now_ms();
    let ticket = world.judge.invalidation_began(running.id, &keys, world.registered(), began_ms);
    world.timeline.add(&("invalidate", slot, key, whole_group), || {
        format!("client  invalidates {what} at m{slot}")
    });
    let names = if whole_group { Vec::new() } else { vec![key.name()] };
    let cache = &running.member.cache;
    let call = running.process.run(async { cache.invalidate(group.name, names).await });
    let reached = tokio::select! {
        biased;
        result = call => result.ok().map(|invalidated| (invalidated.reached, invalidated.total)),
        () = running.process.ended() => None,
        () = sleep(Duration::from_millis(INVALIDATION_MS)) => {
            if !was_frozen(world, running, began_ms) {
                let text = format!("invalidation of {what} at m{slot} does not end");
                world.judge.violate(Check::Hang, world.timeline.now_ms(), text);
            }
            None
        }
    };
    let now_ms = world.timeline.now_ms();
    world.timeline.add(&("invalidated", slot, key, reached), || match reached {
        Some((reached, total)) => {
            format!("m{slot}      has invalidated {what} at {reached} of {total}")
        }
        None => format!("m{slot}      has not answered the invalidation of {what}"),
    });
    world.judge.invalidation_ended(&ticket, reached, &world.registered(), now_ms);
}

/// True if the member was frozen at any time since then, so that it kept no time limit.
fn was_frozen(world: &World, running: &Running, since_ms: u64) -> bool {
    running.process.is_frozen() || world.judge.was_frozen_since(running.id.slot, since_ms)
}

/// Applications are routed to ready members only; a frozen one still counts as ready.
fn any_ready(world: &World, random: &Random) -> Option<Running> {
    let ready: Vec<Running> =
        world.running().into_iter().filter(|running| running.member.ready.is_ready()).collect();
    (!ready.is_empty()).then(|| ready[index(random, ready.len())].clone())
}

/// Keys are read by Zipf's law: the nth as often as 1/n of the first.
fn any_key(world: &World, random: &Random) -> Key {
    let groups = &world.plan().groups;
    let group = index(random, groups.len());
    let share = |nth: usize| 1.0 / f64::from(u32::try_from(nth + 1).expect("few keys"));
    let whole: f64 = (0..groups[group].keys).map(share).sum();
    let mut left = random.ratio() * whole;
    for index in 0..groups[group].keys {
        left -= share(index);
        if left < 0.0 {
            return Key { group, index };
        }
    }
    Key { group, index: 0 }
}

async fn pause(random: &Random, mean_ms: u64) {
    sleep(Duration::from_millis(1 + random.below(2 * mean_ms))).await;
}

fn index(random: &Random, len: usize) -> usize {
    usize::try_from(random.below(len as u64)).expect("below a usize")
}

impl std::fmt::Display for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost => f.write_str("nothing"),
            Self::Failed(kind) => write!(f, "error {kind}"),
            Self::Value { seen, stale } => {
                match seen {
                    Seen::Absent => f.write_str("absent")?,
                    Seen::Empty => f.write_str("empty")?,
                    Seen::Garbage => f.write_str("bytes of no load")?,
                    Seen::Stamped(stamp) => {
                        write!(f, "version {} of load {}", stamp.version, stamp.load)?;
                    }
                }
                f.write_str(if *stale { ", stale" } else { "" })
            }
        }
    }
}
