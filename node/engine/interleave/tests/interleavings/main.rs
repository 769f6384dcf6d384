//! The cache under many schedules: each story runs with threads whose every lock and atomic is a
//! point where shuttle may let another one go on. It never relies on real time or real threads.
//!
//! A failure prints its seed and schedule; `SHUTTLE_RANDOM_SEED=<seed>` tries it again.

mod budget;
mod fence;
mod leaving;

use std::sync::Arc;

use bytes::Bytes;
use larder_engine::{Cache, GroupOptions, NewEntry, Options, PolicyKind, Tick, Value};
use shuttle::thread;

const NOW: Tick = Tick::from_millis(1_000_000);

/// Runs the story under `schedules` orders drawn at random, and as many in which the threads have
/// priorities that change three times (PCT: Burckhardt, Kothari, Musuvathi, Nagarakatti, "A
/// Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010). The first
/// kind switches often, the second lets one thread lie for long in the middle of a step.
fn under_many_schedules(schedules: usize, story: impl Fn() + Send + Sync + 'static) {
    let story = Arc::new(story);
    let again = Arc::clone(&story);
    shuttle::check_random(move || story(), schedules);
    shuttle::check_pct(move || again(), schedules, 3);
}

/// Runs the threads of a story to their ends.
fn together(threads: Vec<Box<dyn FnOnce() + Send>>) {
    let running: Vec<_> = threads.into_iter().map(thread::spawn).collect();
    running.into_iter().for_each(|thread| thread.join().expect("a thread of the story failed"));
}

fn cache(capacity_bytes: u64, shards: usize) -> Cache {
    Cache::new(Options { capacity_bytes, shards: Some(shards), ..Options::default() })
}

fn under(policy: PolicyKind) -> GroupOptions {
    GroupOptions { policy, ..GroupOptions::default() }
}

/// An entry without end whose version and value are `version`.
fn entry(version: u64) -> NewEntry {
    let value = Value::Present(Bytes::copy_from_slice(&version.to_be_bytes()));
    NewEntry::new(value, Tick::NEVER, Tick::NEVER, version)
}

fn sized(len: usize) -> NewEntry {
    NewEntry::new(Value::Present(Bytes::from(vec![7; len])), Tick::NEVER, Tick::NEVER, 1)
}
