//! Background probes. Members that are down are probed while calls are made, so that no call has to
//! find out whether a member is back, and calls that wait for one continue as soon as it is. A
//! member that leaves a call without an answer is probed once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Directory;
use crate::member::{Check, Member};

/// Pause between probes while a call waits for a member.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// The longest pause between probes while no call waits.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Probing ends this long after the last call.
const IDLE: Duration = Duration::from_secs(30);

/// The result of probing every member that is down, once.
enum Probed {
    /// No member is down, or no call was made for [`IDLE`].
    NothingToDo,
    /// At least one member answered again.
    SomeReturned,
    NoneReturned,
}

/// Clears `probing` when the task ends, unless the directory is gone by then.
struct ClearProbing(Weak<Directory>);

impl Drop for ClearProbing {
    fn drop(&mut self) {
        if let Some(directory) = self.0.upgrade() {
            directory.probing.store(false, Ordering::Release);
        }
    }
}

struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Directory {
    /// For [`Directory::wait_for_return`]. Taken before a round, so that a return during the round
    /// is not missed.
    pub(crate) fn returns(&self) -> watch::Receiver<u64> {
        let mut returns = self.returns.subscribe();
        returns.mark_unchanged();
        returns
    }

    /// Waits for `limit`, or less when a member that was down answers again or new ones appear.
    pub(crate) async fn wait_for_return(
        self: &Arc<Self>,
        mut returns: watch::Receiver<u64>,
        limit: Duration,
    ) {
        self.waiters.fetch_add(1, Ordering::Relaxed);
        let _waiter = Waiter(&self.waiters);
        self.start_probes();
        let _ = timeout(limit, returns.changed()).await;
    }

    /// Probes a member that has left a call without an answer. The receiver gets whether it
    /// answers; calls to one member share a probe. Continues when the receiver is dropped.
    pub(crate) fn check(self: &Arc<Self>, member: &Arc<Member>) -> Check {
        let mut last = member.check.lock();
        let is_running = |check: &&Check| check.has_changed().is_ok() && check.borrow().is_none();
        if let Some(running) = last.as_ref().filter(is_running) {
            return running.clone();
        }
        let (verdict, check) = watch::channel(None);
        *last = Some(check.clone());
        let (directory, member) = (Arc::clone(self), Arc::clone(member));
        tokio::spawn(async move {
            _ = directory.probe(&member).await;
            if member.is_down() {
                directory.start_refresh();
                directory.start_probes();
            }
            verdict.send_replace(Some(!member.is_down()));
        });
        check
    }

    /// Probes the members that are down until all answer or calls cease.
    pub(super) fn start_probes(self: &Arc<Self>) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let directory = Arc::downgrade(self);
        // Created outside the task and moved into it, so that the flag is also cleared when the
        // runtime ends before the task's first poll.
        let flag = ClearProbing(Weak::clone(&directory));
        tokio::spawn(async move {
            let _flag = flag;
            let mut pause = PROBE_EVERY;
            loop {
                tokio::time::sleep(pause).await;
                let Some(directory) = directory.upgrade() else { return };
                match directory.probe_down_members().await {
                    Probed::NothingToDo => return,
                    Probed::SomeReturned => pause = PROBE_EVERY,
                    Probed::NoneReturned if directory.waiters.load(Ordering::Relaxed) > 0 => {
                        pause = PROBE_EVERY;
                    }
                    Probed::NoneReturned => pause = (pause * 2).min(PROBE_PAUSE_MAX),
                }
            }
        });
    }

    async fn probe_down_members(&self) -> Probed {
        let now = self.millis_since_start(Instant::now());
        let idle = now - self.last_call.load(Ordering::Relaxed);
        let is_waited_for = self.waiters.load(Ordering::Relaxed) > 0;
        if !is_waited_for && Duration::from_millis(idle) > IDLE {
            return Probed::NothingToDo;
        }
        self.resolve().await;
        let down: Vec<_> = self.members().into_iter().filter(|m| m.is_down()).collect();
        if down.is_empty() && !is_waited_for {
            return Probed::NothingToDo;
        }
        let probes = join_all(down.iter().map(|m| self.probe(m))).await;
        if probes.iter().any(Result::is_ok) { Probed::SomeReturned } else { Probed::NoneReturned }
    }
}
