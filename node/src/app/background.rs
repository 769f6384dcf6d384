//! The runtimes of everything that may take time, apart from the serving threads.
//!
//! Each kind of work has its own, so that one cannot stall another: a loader that blocks its thread
//! delays loads, but neither the peers' syncs nor the member's lease.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures::future::join_all;
use larder_runtime::tasks::{Tasks, Unfinished};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// Where a node's background work runs.
#[derive(Debug, Clone)]
pub(super) struct BackgroundTasks {
    /// Membership, probes, metrics, sweeps. One thread.
    pub(super) upkeep: Tasks,
    /// Loads from origins. One thread.
    pub(super) loads: Tasks,
    /// Calls to peers, and reads that wait for them. As many threads as serve.
    pub(super) peers: Tasks,
}

/// The threads of the runtimes. They stop on drop, without a grace time.
pub(super) struct Background {
    threads: Vec<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Background {
    /// Starts the runtimes, with `workers` threads for the peers.
    pub(super) fn start(workers: usize) -> io::Result<(Self, BackgroundTasks)> {
        let mut background = Self { threads: Vec::new(), stop: CancellationToken::new() };
        let single = || Builder::new_current_thread().enable_all().build();
        let peers = Builder::new_multi_thread()
            .worker_threads(workers)
            .thread_name("larder-peers")
            .enable_all()
            .build()?;
        let tasks = BackgroundTasks {
            upkeep: background.run("larder-upkeep", single()?)?,
            loads: background.run("larder-loads", single()?)?,
            peers: background.run("larder-peers", peers)?,
        };
        Ok((background, tasks))
    }

    /// Runs `runtime` on a thread of its own, which also drops it: a runtime must not be dropped on
    /// another one's thread.
    fn run(&mut self, name: &str, runtime: Runtime) -> io::Result<Tasks> {
        let (tasks, stop) = (Tasks::new(runtime.handle().clone()), self.stop.clone());
        let thread = thread::Builder::new()
            .name(name.into())
            .spawn(move || runtime.block_on(stop.cancelled()))?;
        self.threads.push(thread);
        Ok(tasks)
    }

    pub(super) fn join(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("background thread panicked");
            }
        }
    }
}

impl BackgroundTasks {
    /// Stops all tasks at the same time. See [`Tasks::stop`].
    pub(super) async fn stop(&self, grace: Duration) -> Result<(), Unfinished> {
        let sets = [&self.upkeep, &self.loads, &self.peers];
        let stopped = join_all(sets.map(|tasks| tasks.stop(grace))).await;
        let count = stopped.iter().map(|stopped| stopped.err().map_or(0, |e| e.count)).sum();
        if count == 0 { Ok(()) } else { Err(Unfinished { count }) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
