//! The thread for everything that may take time: loads, peers, membership.

use std::io;
use std::thread::{self, JoinHandle};

use larder_runtime::tasks::{Failure, Tasks};
use tokio_util::sync::CancellationToken;

/// The thread with its runtime. It stops on drop, without a grace time.
pub(super) struct Background {
    thread: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Background {
    pub(super) fn start(failure: &Failure) -> io::Result<(Self, Tasks)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let tasks = Tasks::new(runtime.handle().clone()).with_failure(failure.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("larder-background".into())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok((Self { thread: Some(thread), stop }, tasks))
    }

    pub(super) fn join(&mut self) {
        self.stop.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("background thread panicked");
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
