//! A simulated process: its tasks can be frozen, as by SIGSTOP, and killed, as by SIGKILL. For
//! deterministic simulations, which run several processes on one runtime.
//!
//! Timers that end while a process is frozen are seen late, when it runs again.

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
    /// Tasks that were woken while the process was frozen, and those that wait for its end.
    held: Vec<Waker>,
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
        let inner = Inner { state: State::Running, held: Vec::new() };
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
        Held { process: self.clone(), future: Some(Box::pin(future)) }
    }

    fn change(&self, to: State) {
        let held = {
            let mut inner = self.inner.lock();
            if inner.state == State::Dead {
                return;
            }
            inner.state = to;
            std::mem::take(&mut inner.held)
        };
        held.into_iter().for_each(Waker::wake);
    }
}

struct Held<F> {
    process: Process,
    /// `None` once the process is dead.
    future: Option<Pin<Box<F>>>,
}

impl<F: Future> Future for Held<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let state = {
            let mut inner = self.process.inner.lock();
            if inner.state != State::Dead
                && !inner.held.iter().any(|waker| waker.will_wake(context.waker()))
            {
                inner.held.push(context.waker().clone());
            }
            inner.state
        };
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
