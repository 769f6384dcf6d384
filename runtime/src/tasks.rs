//! Background tasks: spawned with a name, cancelled together, joined at shutdown.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

#[cfg(feature = "test-util")]
use crate::process::Process;

/// Tasks were still running after the grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{count} background tasks did not finish in time")]
pub struct Unfinished {
    /// Number of tasks still running.
    pub count: usize,
}

/// A set of tasks on one runtime. Clones share the set.
#[derive(Debug, Clone)]
pub struct Tasks {
    handle: Handle,
    tracker: TaskTracker,
    stopping: CancellationToken,
    /// The simulated process in which the tasks run.
    #[cfg(feature = "test-util")]
    process: Option<Process>,
}

impl Tasks {
    /// An empty set whose tasks run on `handle`'s runtime, whichever thread spawns them.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self {
            handle,
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            #[cfg(feature = "test-util")]
            process: None,
        }
    }

    /// [`Tasks::new`] for a simulated process: freezing or killing it affects every task.
    #[cfg(feature = "test-util")]
    #[must_use]
    pub fn of_process(handle: Handle, process: Process) -> Self {
        Self { process: Some(process), ..Self::new(handle) }
    }

    /// Spawns a task in a span called `name`. It should end soon after [`Tasks::stopping`] is
    /// cancelled.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let span = tracing::info_span!("task", name);
        #[cfg(feature = "test-util")]
        if let Some(process) = &self.process {
            return self.tracker.spawn_on(process.run(future.instrument(span)), &self.handle);
        }
        self.tracker.spawn_on(future.instrument(span), &self.handle)
    }

    /// Token that [`Tasks::stop`] cancels.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Number of running tasks.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// The runtime on which the tasks run.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Cancels [`Tasks::stopping`] and waits until every task has finished.
    ///
    /// # Errors
    /// Some tasks still run after `grace`. They continue until their runtime is dropped.
    ///
    /// # Cancel safety
    /// The token stays cancelled; call `stop` again to continue waiting.
    pub async fn stop(&self, grace: Duration) -> Result<(), Unfinished> {
        self.stopping.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait())
            .await
            .map_err(|_| Unfinished { count: self.tracker.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stop_joins_every_task() {
        let tasks = Tasks::new(Handle::current());
        let stopping = tasks.stopping().clone();
        tasks.spawn("waits", async move { stopping.cancelled().await });
        assert_eq!(tasks.running(), 1);
        assert_eq!(tasks.stop(Duration::from_secs(1)).await, Ok(()));
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn stop_counts_tasks_that_do_not_finish() {
        let tasks = Tasks::new(Handle::current());
        tasks.spawn("deaf", std::future::pending::<()>());
        assert_eq!(tasks.stop(Duration::from_secs(1)).await, Err(Unfinished { count: 1 }));
    }
}
