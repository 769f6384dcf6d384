//! LEAD: read LEAD-NOTE.md beside this file before you go on (use bb8 instead of a pool of our own).
//! The connections to one database: idle ones are kept, new ones are opened by tasks of their own.
//!
//! Not sqlx's pool, for three reasons. It opens a connection inside the load that needs one, so a
//! member that is slow to connect aborts and repeats its connects for ever; it asks a server that
//! refuses connections again until the time is over, and then tells only that time was over; and
//! it asks the server once more after every use. The bulkhead bounds the loads already, which
//! leaves little for a pool to do.
//!
//! # Guarantees
//! - Never more than `max` connections, with those that are being opened and those that still
//!   finish a query that nobody waits for.
//! - An opening goes on when its load has ended, and serves the next. It ends within
//!   [`CONNECT_LIMIT`].
//! - An opening that fails tells its cause to one waiting load.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use larder_runtime::tasks::Tasks;
use parking_lot::Mutex;
use sqlx::{ConnectOptions, Connection};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::problem;
use crate::origin::Error;

/// Longest time that the opening of a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Connections that are idle longer are closed.
const IDLE_LIMIT: Duration = Duration::from_secs(300);
/// Connections that were idle longer are tried before they are used.
const DOUBTFUL: Duration = Duration::from_secs(5);
/// How long the query of a load that gave up may go on before its connection is closed.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Connections<C: Connection + 'static>(Arc<Inner<C>>);

struct Inner<C: Connection + 'static> {
    options: C::Options,
    /// The database in words that hold no secret.
    place: String,
    max: usize,
    tasks: Tasks,
    state: Mutex<State<C>>,
}

struct State<C: Connection + 'static> {
    /// The one used last stands last, and is taken first.
    idle: Vec<Idle<C>>,
    /// Loads without a connection, in their order; those that gave up are closed.
    waiting: VecDeque<oneshot::Sender<Result<Lease<C>, Error>>>,
    opening: usize,
    /// Connections that exist or are being opened. Never above `max`.
    total: usize,
}

struct Idle<C> {
    connection: C,
    since: Instant,
}

/// A connection in use. Dropped before [`Lease::settle`] its query goes on, and the connection is
/// kept once the server is done with it.
pub(super) struct Lease<C: Connection + 'static> {
    /// Nothing once it is settled.
    connection: Option<C>,
    /// The server owes no answer on it.
    clean: bool,
    owner: Arc<Inner<C>>,
}

/// Counts one opening, however it ends.
struct Opening<C: Connection + 'static> {
    owner: Arc<Inner<C>>,
    /// It counts on, as a connection.
    made: bool,
}

enum Next<C: Connection + 'static> {
    Idle(Lease<C>, Duration),
    Wait(oneshot::Receiver<Result<Lease<C>, Error>>),
}

impl<C: Connection + 'static> Connections<C> {
    /// No connection yet. Must be called on a runtime: openings run there.
    pub(super) fn new(options: C::Options, place: String, max: u32) -> Self {
        let state = State { idle: Vec::new(), waiting: VecDeque::new(), opening: 0, total: 0 };
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let max = max.max(1) as usize;
        let state = Mutex::new(state);
        let inner = Arc::new(Inner { options, place, max, tasks, state });
        let kept = Arc::downgrade(&inner);
        inner.tasks.spawn("reap", async move {
            loop {
                sleep(IDLE_LIMIT / 10).await;
                let Some(inner) = kept.upgrade() else { return };
                inner.reap();
            }
        });
        Self(inner)
    }

    /// A connection for one load.
    ///
    /// # Errors
    /// Why a new connection could not be opened.
    ///
    /// # Cancel safety
    /// Safe: what is being opened serves the next load.
    pub(super) async fn take(&self) -> Result<Lease<C>, Error> {
        loop {
            match self.0.next() {
                Next::Wait(opened) => {
                    let mut lease = opened.await.expect("a sender is dropped only when used")?;
                    lease.clean = false;
                    return Ok(lease);
                }
                Next::Idle(lease, idle) if idle < DOUBTFUL => return Ok(lease),
                Next::Idle(mut lease, _) => match lease.ping().await {
                    Ok(()) => return Ok(lease),
                    Err(error) => _ = lease.settle::<()>(Err(error)),
                },
            }
        }
    }

    /// What a load waits for that did not end in time; nothing when it is the database's answer.
    pub(super) fn pending(&self) -> Option<String> {
        let opening = self.0.state.lock().opening > 0;
        opening.then(|| format!("no connection to {} was made", self.0.place))
    }
}

impl<C: Connection + 'static> Inner<C> {
    /// An idle connection, or a place among those who wait for one.
    fn next(self: &Arc<Self>) -> Next<C> {
        let mut state = self.state.lock();
        if let Some(Idle { connection, since }) = state.idle.pop() {
            drop(state);
            return Next::Idle(self.lease(connection, false), since.elapsed());
        }
        let (sender, opened) = oneshot::channel();
        state.waiting.push_back(sender);
        drop(state);
        self.open_if_needed();
        Next::Wait(opened)
    }

    fn lease(self: &Arc<Self>, connection: C, clean: bool) -> Lease<C> {
        Lease { connection: Some(connection), clean, owner: self.clone() }
    }

    /// Opens a connection if more loads wait than are being opened, and there is room.
    fn open_if_needed(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.waiting.retain(|waiting| !waiting.is_closed());
        if state.opening >= state.waiting.len() || state.total >= self.max {
            return;
        }
        state.opening += 1;
        state.total += 1;
        drop(state);
        let mut opening = Opening { owner: self.clone(), made: false };
        let inner = self.clone();
        self.tasks.spawn("connect", async move {
            let opened = timeout(CONNECT_LIMIT, inner.options.connect()).await;
            opening.made = matches!(opened, Ok(Ok(_)));
            // Its place is free before the news: whoever hears it may ask again at once.
            drop(opening);
            let error = match opened {
                Ok(Ok(connection)) => return inner.keep(connection),
                Ok(Err(error)) => problem::connecting(&inner.place, &error),
                Err(_) => problem::silent(&inner.place, CONNECT_LIMIT),
            };
            tracing::warn!(%error, "no connection to an origin");
            inner.tell(error);
            inner.open_if_needed();
        });
    }

    /// Tells one waiting load why it gets no connection.
    fn tell(&self, mut error: Error) {
        while let Some(waiting) = self.first_waiting() {
            match waiting.send(Err(error)) {
                Err(Err(unheard)) => error = unheard,
                Ok(()) | Err(Ok(_)) => return,
            }
        }
    }

    fn first_waiting(&self) -> Option<oneshot::Sender<Result<Lease<C>, Error>>> {
        self.state.lock().waiting.pop_front()
    }

    /// Hands a connection to the load that waits longest, or keeps it.
    fn keep(self: &Arc<Self>, mut connection: C) {
        loop {
            let waiting = {
                let mut state = self.state.lock();
                let Some(waiting) = state.waiting.pop_front() else {
                    state.idle.push(Idle { connection, since: Instant::now() });
                    return;
                };
                waiting
            };
            // Sent outside the lock: a lease that nobody takes comes back here.
            match waiting.send(Ok(self.lease(connection, true))) {
                Err(Ok(mut unheard)) => {
                    connection = unheard.connection.take().expect("not settled");
                }
                Ok(()) | Err(Err(_)) => return,
            }
        }
    }

    /// Closes connections that were idle too long.
    fn reap(&self) {
        let mut state = self.state.lock();
        let old = state.idle.partition_point(|idle| idle.since.elapsed() >= IDLE_LIMIT);
        let old: Vec<Idle<C>> = state.idle.drain(..old).collect();
        state.total -= old.len();
        drop(state);
        old.into_iter().for_each(|idle| self.close(idle.connection));
    }

    /// Says farewell to the server, in the background.
    fn close(&self, connection: C) {
        self.tasks.spawn("close", timeout(FINISH_LIMIT, connection.close()));
    }

    /// A connection broke, and with it likely all that are idle: their server was stopped.
    fn broke(self: &Arc<Self>) {
        let idle = std::mem::take(&mut self.state.lock().idle);
        self.gone(idle.len() + 1);
    }

    fn gone(self: &Arc<Self>, connections: usize) {
        self.state.lock().total -= connections;
        self.open_if_needed();
    }
}

impl<C: Connection + 'static> Lease<C> {
    /// Gives the connection back after its use: kept unless the use broke it.
    pub(super) fn settle<T>(mut self, used: Result<T, sqlx::Error>) -> Result<T, Error> {
        let connection = self.connection.take().expect("settled once");
        match &used {
            Err(error) if problem::breaks(error) => {
                drop(connection);
                self.owner.broke();
            }
            Ok(_) | Err(_) => self.owner.keep(connection),
        }
        used.map_err(|error| problem::asking(&self.owner.place, &error))
    }
}

impl<C: Connection + 'static> Drop for Lease<C> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let owner = self.owner.clone();
        if self.clean {
            return owner.keep(connection);
        }
        // Closing it would not end the query: the server would work for one load more than may.
        self.owner.tasks.spawn("finish", async move {
            match timeout(FINISH_LIMIT, connection.ping()).await {
                Ok(Ok(())) => owner.keep(connection),
                Ok(Err(_)) => owner.broke(),
                Err(_) => owner.gone(1),
            }
        });
    }
}

impl<C: Connection + 'static> Deref for Lease<C> {
    type Target = C;

    fn deref(&self) -> &C {
        self.connection.as_ref().expect("not settled")
    }
}

impl<C: Connection + 'static> DerefMut for Lease<C> {
    fn deref_mut(&mut self) -> &mut C {
        self.connection.as_mut().expect("not settled")
    }
}

impl<C: Connection + 'static> Drop for Opening<C> {
    fn drop(&mut self) {
        let mut state = self.owner.state.lock();
        state.opening -= 1;
        state.total -= usize::from(!self.made);
    }
}

impl<C: Connection + 'static> Drop for Inner<C> {
    fn drop(&mut self) {
        let idle = std::mem::take(&mut self.state.get_mut().idle);
        idle.into_iter().for_each(|idle| self.close(idle.connection));
    }
}
