//! Members that do not answer: probed in the background while calls are made, so that no call has
//! to find out; calls that wait for one are told when it is back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Directory;

/// Pause between probes of silent members while a call waits for one.
const PROBE_EVERY: Duration = Duration::from_millis(200);
/// The longest pause between probes when no call waits.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// Probing ends when no call was made for so long.
const IDLE: Duration = Duration::from_secs(30);

/// How a round of probes went.
enum Healed {
    /// Every member answers, or nobody cares.
    Nothing,
    /// At least one came back.
    Some,
    /// None came back.
    None,
}

struct HealFlag(Weak<Directory>);

impl Drop for HealFlag {
    fn drop(&mut self) {
        if let Some(directory) = self.0.upgrade() {
            directory.healing.store(false, Ordering::Release);
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
    /// For [`Directory::wait_for_return`]: taken before a round, so that nothing is missed.
    pub(crate) fn returns(&self) -> watch::Receiver<u64> {
        let mut returns = self.returns.subscribe();
        returns.mark_unchanged();
        returns
    }

    /// Waits for `limit`, or less when a silent member answers again or new ones appear.
    pub(crate) async fn wait_for_return(
        self: &Arc<Self>,
        mut returns: watch::Receiver<u64>,
        limit: Duration,
    ) {
        self.waiters.fetch_add(1, Ordering::Relaxed);
        let _waiter = Waiter(&self.waiters);
        self.heal();
        let _ = timeout(limit, returns.changed()).await;
    }

    /// Probes silent members until all answer, or nobody calls any more.
    pub(super) fn heal(self: &Arc<Self>) {
        if self.healing.swap(true, Ordering::AcqRel) {
            return;
        }
        let directory = Arc::downgrade(self);
        // Held by the task from its birth, so that a runtime that ends before its first poll
        // sets the flag back too.
        let flag = HealFlag(Weak::clone(&directory));
        tokio::spawn(async move {
            let _flag = flag;
            let mut pause = PROBE_EVERY;
            loop {
                tokio::time::sleep(pause).await;
                let Some(directory) = directory.upgrade() else { return };
                match directory.heal_once().await {
                    Healed::Nothing => return,
                    Healed::Some => pause = PROBE_EVERY,
                    Healed::None if directory.waiters.load(Ordering::Relaxed) > 0 => {
                        pause = PROBE_EVERY;
                    }
                    Healed::None => pause = (pause * 2).min(PROBE_PAUSE_MAX),
                }
            }
        });
    }

    async fn heal_once(&self) -> Healed {
        let idle = self.millis(Instant::now()) - self.last_call.load(Ordering::Relaxed);
        let waited_for = self.waiters.load(Ordering::Relaxed) > 0;
        if !waited_for && Duration::from_millis(idle) > IDLE {
            return Healed::Nothing;
        }
        self.resolve().await;
        let down: Vec<_> = self.members().into_iter().filter(|m| m.is_down()).collect();
        if down.is_empty() && !waited_for {
            return Healed::Nothing;
        }
        let probes = join_all(down.iter().map(|m| self.ask_ring(m))).await;
        if probes.iter().any(Result::is_ok) { Healed::Some } else { Healed::None }
    }
}
