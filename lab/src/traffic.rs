//! The clients: readers of few keys, and writers that change the origin and invalidate.

use std::sync::Arc;
use std::time::Duration;

use larder_node::cache::{Answer, Error, Scope};
use larder_runtime::random::Random;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::judge::{Answered, Check, EPSILON_MS, Seen};
use crate::key::{Key, Stamp, tag_name};
use crate::member::Running;
use crate::world::World;

/// Deadlines of the reads, ms.
const DEADLINES_MS: [u64; 5] = [20, 200, 1_000, 2_500, 6_000];
/// An invalidation ends within this time, ms: two rounds of calls, each with its own limit.
const INVALIDATION_MS: u64 = 5_000;

/// What a writer invalidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Target {
    Key(Key),
    Group(usize),
    /// A tag of a group.
    Tag(usize, usize),
}

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
        let target = match random.below(12) {
            0 => Target::Group(key.group),
            1..=4 if world.plan().groups[key.group].is_tagged => Target::Tag(key.group, key.tag()),
            _ => Target::Key(key),
        };
        if let Some(running) = any_ready(&world, &random) {
            invalidate(&world, &running, target).await;
        }
    }
}

async fn invalidate(world: &World, running: &Running, target: Target) {
    let slot = running.id.slot;
    let (group, scope) = target.scope();
    let plan = &world.plan().groups[group];
    let all = (0..plan.keys).map(|index| Key { group, index });
    let (keys, others): (Vec<Key>, Vec<Key>) = all.partition(|key| target.has(*key));
    // The tags of a value in flight are not known, so an invalidation by tag detaches all flights.
    let detached = if matches!(target, Target::Tag(..)) { others } else { Vec::new() };
    let began_ms = world.timeline.now_ms();
    let registered = world.registered();
    let ticket = world.judge.invalidation_began(running.id, &keys, detached, registered, began_ms);
    world
        .timeline
        .add(&("invalidate", slot, target), || format!("client  invalidates {target} at m{slot}"));
    let cache = &running.member.cache;
    let call = running.process.run(async { cache.invalidate(plan.name, scope).await });
    let reached = tokio::select! {
        biased;
        result = call => result.ok().map(|invalidated| (invalidated.reached, invalidated.total)),
        () = running.process.ended() => None,
        () = sleep(Duration::from_millis(INVALIDATION_MS)) => {
            if !was_frozen(world, running, began_ms) {
                let text = format!("invalidation of {target} at m{slot} does not end");
                world.judge.violate(Check::Hang, world.timeline.now_ms(), text);
            }
            None
        }
    };
    let now_ms = world.timeline.now_ms();
    world.timeline.add(&("invalidated", slot, target, reached), || match reached {
        Some((reached, total)) => {
            format!("m{slot}      has invalidated {target} at {reached} of {total}")
        }
        None => format!("m{slot}      has not answered the invalidation of {target}"),
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

impl Target {
    fn has(self, key: Key) -> bool {
        match self {
            Self::Key(only) => key == only,
            Self::Group(group) => key.group == group,
            Self::Tag(group, tag) => key.group == group && key.tag() == tag,
        }
    }

    /// The group, and the part of it to drop.
    fn scope(self) -> (usize, Scope) {
        match self {
            Self::Key(key) => (key.group, Scope { keys: vec![key.name()], tags: Vec::new() }),
            Self::Group(group) => (group, Scope::default()),
            Self::Tag(group, tag) => (group, Scope { keys: Vec::new(), tags: vec![tag_name(tag)] }),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => write!(f, "{key}"),
            Self::Group(group) => write!(f, "g{group}"),
            Self::Tag(group, tag) => write!(f, "tag {tag} of g{group}"),
        }
    }
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
