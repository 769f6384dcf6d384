//! A simulated process: its tasks can be frozen, as by SIGSTOP, and killed, as by SIGKILL. For
//! deterministic simulations, which run several processes on one runtime.
//!
//! Timers that end while a process is frozen are seen late, when it runs again.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// One simulated process. Clones share it.
#[derive(Debug, Clone)]
pub struct Process {
    inner: Arc<Mutex<Inner>>,
    ended: CancellationToken,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// The process's unfinished tasks, in the order of their first polls.
    tasks: BTreeMap<u64, Waker>,
    last_task: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Frozen,
    Dead,
}

impl Process {
    /// A running process.
    #[must_use]
    pub fn start() -> Self {
        let inner = Inner { state: State::Running, tasks: BTreeMap::new(), last_task: 0 };
        Self { inner: Arc::new(Mutex::new(inner)), ended: CancellationToken::new() }
    }

    /// Stops its tasks until [`Process::thaw`]. No effect on a dead process.
    pub fn freeze(&self) {
        self.change(State::Frozen);
    }

    /// Lets its tasks run again. No effect on a dead process.
    pub fn thaw(&self) {
        self.change(State::Running);
    }

    /// Drops the futures of its tasks. They never complete.
    pub fn kill(&self) {
        self.change(State::Dead);
        self.ended.cancel();
    }

    /// Returns once the process is dead.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// True while its tasks do not run.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.inner.lock().state == State::Frozen
    }

    /// True after [`Process::kill`].
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.inner.lock().state == State::Dead
    }

    /// `future` as a part of this process.
    pub fn run<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        Part { process: self.clone(), task: None, future: Some(Box::pin(future)) }
    }

    fn change(&self, to: State) {
        let tasks: Vec<Waker> = {
            let mut inner = self.inner.lock();
            if inner.state == State::Dead {
                return;
            }
            inner.state = to;
            inner.tasks.values().cloned().collect()
        };
        tasks.into_iter().for_each(Waker::wake);
    }
}

struct Part<F> {
    process: Process,
    /// Its number among the process's tasks, from its first poll on.
    task: Option<u64>,
    /// `None` once the process is dead.
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Part<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let (task, state) = self.process.inner.lock().polled(self.task, context.waker());
        self.task = Some(task);
        match (state, self.future.as_mut()) {
            (State::Running, Some(future)) => future.as_mut().poll(context),
            (State::Frozen, _) | (_, None) => Poll::Pending,
            (State::Dead, Some(_)) => {
                self.future = None;
                Poll::Pending
            }
        }
    }
}

impl Inner {
    fn polled(&mut self, task: Option<u64>, waker: &Waker) -> (u64, State) {
        let task = task.unwrap_or_else(|| {
            self.last_task += 1;
            self.last_task
        });
        let known = self.tasks.entry(task).or_insert_with(|| waker.clone());
        known.clone_from(waker);
        (task, self.state)
    }
}

impl<F> Drop for Part<F> {
    fn drop(&mut self) {
        if let Some(task) = self.task {
            self.process.inner.lock().tasks.remove(&task);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::runtime::Handle;
    use tokio::time::{Instant, advance, sleep};

    use super::*;
    use crate::tasks::Tasks;

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_ends_while_frozen_is_seen_after_the_thaw() {
        let process = Process::start();
        let tasks = Tasks::of_process(Handle::current(), process.clone());
        let began = Instant::now();
        let task = tasks.spawn("sleeps", async move {
            sleep(Duration::from_secs(1)).await;
            began.elapsed()
        });
        tokio::task::yield_now().await;
        process.freeze();
        advance(Duration::from_secs(5)).await;
        assert!(!task.is_finished());
        process.thaw();
        assert_eq!(task.await.expect("completes"), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn the_futures_of_a_killed_process_are_dropped() {
        let process = Process::start();
        let tasks = Tasks::of_process(Handle::current(), process.clone());
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn("holds", async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        process.kill();
        process.thaw();
        dropped.await.expect_err("dropped, not sent");
        assert!(process.is_dead());
    }
}
