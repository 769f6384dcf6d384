//! Background tasks: spawned with a name, cancelled together, joined at shutdown.
//!
//! A panic ends only its task. Where the process is useless without a task, the task is *vital*:
//! its panic is a [`Failure`], after which the process drains and exits, so that its supervisor
//! starts a new one. The task is not restarted in place: a panic may leave half-applied state
//! behind, and a new process is the recovery that every other fault uses and tests.

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

/// Whether a vital task or thread panicked. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Failure(CancellationToken);

/// Reports a [`Failure`] if a panic drops it. Held by a vital task or thread while it runs.
#[derive(Debug)]
pub struct Vital {
    name: &'static str,
    failure: Failure,
}

/// A set of tasks on one runtime. Clones share the set.
#[derive(Debug, Clone)]
pub struct Tasks {
    handle: Handle,
    tracker: TaskTracker,
    stopping: CancellationToken,
    failure: Failure,
    /// The simulated process in which the tasks run.
    #[cfg(feature = "test-util")]
    process: Option<Process>,
}

impl Failure {
    /// Makes the calling task or thread vital until the guard is dropped.
    #[must_use]
    pub fn vital(&self, name: &'static str) -> Vital {
        Vital { name, failure: self.clone() }
    }

    /// True if a vital task or thread panicked.
    #[must_use]
    pub fn has_happened(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until a vital task or thread panics.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(task = self.name, "vital task panicked, this process has to stop");
            self.failure.0.cancel();
        }
    }
}

impl Tasks {
    /// An empty set whose tasks run on `handle`'s runtime, whichever thread spawns them.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self {
            handle,
            tracker: TaskTracker::new(),
            stopping: CancellationToken::new(),
            failure: Failure::default(),
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

    /// The set with `failure` for the panics of its vital tasks. Several sets may share one.
    #[must_use]
    pub fn with_failure(self, failure: Failure) -> Self {
        Self { failure, ..self }
    }

    /// Spawns a task without which the process is useless: its panic is a [`Failure`]. Otherwise as
    /// [`Tasks::spawn`].
    pub fn spawn_vital<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let vital = self.failure.vital(name);
        self.spawn(name, async move {
            let _vital = vital;
            future.await
        })
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
    async fn only_the_panic_of_a_vital_task_is_a_failure() {
        let failure = Failure::default();
        let tasks = Tasks::new(Handle::current()).with_failure(failure.clone());
        async fn panics() {
            tokio::task::yield_now().await;
            panic!("planned");
        }
        tasks.spawn("a load", panics()).await.expect_err("a panic");
        tasks.spawn_vital("ends", std::future::ready(())).await.expect("no panic");
        tasks.spawn_vital("is aborted", std::future::pending::<()>()).abort();
        tokio::task::yield_now().await;
        assert!(!failure.has_happened());
        tasks.spawn_vital("a watch", panics()).await.expect_err("a panic");
        tokio::time::timeout(Duration::from_secs(1), failure.wait()).await.expect("seen");
        assert!(failure.has_happened());
    }

    #[tokio::test(start_paused = true)]
    async fn stop_counts_tasks_that_do_not_finish() {
        let tasks = Tasks::new(Handle::current());
        tasks.spawn("deaf", std::future::pending::<()>());
        assert_eq!(tasks.stop(Duration::from_secs(1)).await, Err(Unfinished { count: 1 }));
    }
}
