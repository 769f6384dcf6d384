//! Runs scenarios of the cache under many schedules. At each lock and atomic operation, shuttle may
//! switch to another thread. No real time and no real threads are involved.
//!
//! A failure prints its seed and schedule; `SHUTTLE_RANDOM_SEED=<seed>` repeats it.

mod budget;
mod fence;
mod leaving;

use std::sync::Arc;

use bytes::Bytes;
use larder_engine::{Cache, GroupOptions, NewEntry, Options, PolicyKind, Tick, Value};
use shuttle::thread;

const NOW: Tick = Tick::from_millis(1_000_000);

/// Runs a scenario under `schedules` random schedules and as many in which the threads have
/// priorities that change three times (PCT: Burckhardt, Kothari, Musuvathi, Nagarakatti, "A
/// Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010). The first
/// kind switches often; the second can suspend a thread in the middle of a step for a long time.
fn under_many_schedules(schedules: usize, scenario: impl Fn() + Send + Sync + 'static) {
    let scenario = Arc::new(scenario);
    let again = Arc::clone(&scenario);
    shuttle::check_random(move || scenario(), schedules);
    shuttle::check_pct(move || again(), schedules, 3);
}

/// Runs the threads of a scenario and joins them.
fn together(threads: Vec<Box<dyn FnOnce() + Send>>) {
    let running: Vec<_> = threads.into_iter().map(thread::spawn).collect();
    running.into_iter().for_each(|thread| thread.join().expect("a thread of the scenario failed"));
}

fn cache(capacity_bytes: u64, shards: usize) -> Cache {
    Cache::new(Options { capacity_bytes, shards: Some(shards), ..Options::default() })
}

fn under(policy: PolicyKind) -> GroupOptions {
    GroupOptions { policy, ..GroupOptions::default() }
}

/// An entry that never expires, with `version` as version and value.
fn entry(version: u64) -> NewEntry {
    let value = Value::Present(Bytes::copy_from_slice(&version.to_be_bytes()));
    NewEntry::new(value, Tick::NEVER, Tick::NEVER, version)
}

fn sized(len: usize) -> NewEntry {
    NewEntry::new(Value::Present(Bytes::from(vec![7; len])), Tick::NEVER, Tick::NEVER, 1)
}
