//! Background tasks: spawned with a name, told to stop together, joined at the end.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Tasks were still running when the grace time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{count} background tasks did not finish in time")]
pub struct Unfinished {
    /// How many.
    pub count: usize,
}

/// A set of tasks on one runtime. Clones share the set.
#[derive(Debug, Clone)]
pub struct Tasks {
    handle: Handle,
    tracker: TaskTracker,
    stopping: CancellationToken,
}

impl Tasks {
    /// An empty set whose tasks run on `handle`'s runtime, whichever thread spawns them.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { handle, tracker: TaskTracker::new(), stopping: CancellationToken::new() }
    }

    /// Starts a task in a span called `name`. It should end soon after [`Tasks::stopping`].
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let span = tracing::info_span!("task", name);
        self.tracker.spawn_on(future.instrument(span), &self.handle)
    }

    /// Cancelled when the set is told to stop.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Tasks running now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// The runtime on which the tasks run.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Tells every task to stop and waits for all of them.
    ///
    /// # Errors
    /// When some still run after `grace`; they go on until their runtime is dropped.
    ///
    /// # Cancel safety
    /// The order to stop stands; call again to wait on.
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
    async fn a_task_that_will_not_stop_is_counted() {
        let tasks = Tasks::new(Handle::current());
        tasks.spawn("deaf", std::future::pending::<()>());
        assert_eq!(tasks.stop(Duration::from_secs(1)).await, Err(Unfinished { count: 1 }));
    }
}
