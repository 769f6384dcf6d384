//! The entry of the read path: find the group and the owner, then read here or forward.

use tokio::time::Instant;

use super::answer::Answer;
use super::error::{Awaited, Error};
use super::shared::Cache;
use super::wait::{Caller, Lookup, Wait};
use crate::gather::Gathering;
use crate::metrics::CountedAs;
use crate::peers::Owner;

impl Cache {
    /// Reads one key as far as possible without waiting. A hit allocates nothing and takes no
    /// await. May be called on any thread.
    #[must_use]
    pub fn get(&self, group: &str, key: &[u8], caller: Caller) -> Lookup {
        self.start(group, key, caller, None)
    }

    /// [`Cache::get`] for each of several keys. Those that have to wait share calls to their owners
    /// and, if it can load several keys at once, to the origin.
    #[must_use]
    pub fn get_many<'k>(
        &self,
        keys: impl ExactSizeIterator<Item = (&'k str, &'k [u8], Caller)>,
    ) -> Vec<Lookup> {
        let gathering = (keys.len() > 1).then(Gathering::new);
        let _until_all_have_started = gathering.as_ref().map(Gathering::key);
        let start = |(group, key, caller)| self.start(group, key, caller, gathering.as_ref());
        keys.map(start).collect()
    }

    fn start(
        &self,
        group: &str,
        key: &[u8],
        caller: Caller,
        gathering: Option<&Gathering>,
    ) -> Lookup {
        self.lookup(group, key, caller, gathering).unwrap_or_else(|error| {
            self.0.metrics.refused(error.kind(), caller.requester().label());
            Lookup::Done(Err(error))
        })
    }

    /// Reads one key for an application. `deadline` is called only if the read has to wait.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancel safety
    /// Safe: a load that has started continues.
    pub async fn read_until(
        &self,
        group: &str,
        key: &[u8],
        deadline: impl FnOnce() -> Instant,
    ) -> Result<Answer, Error> {
        match self.get(group, key, Caller::Application) {
            Lookup::Done(answer) => answer,
            Lookup::Wait(wait) => wait.answer(deadline()).await,
        }
    }

    /// [`Cache::read_until`] with the default deadline.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn read(&self, group: &str, key: &[u8]) -> Result<Answer, Error> {
        self.read_until(group, key, || self.default_deadline()).await
    }

    fn lookup(
        &self,
        group: &str,
        key: &[u8],
        caller: Caller,
        gathering: Option<&Gathering>,
    ) -> Result<Lookup, Error> {
        let groups = self.0.groups.load();
        let group = groups.get(group).ok_or_else(|| self.unknown_group(group))?;
        self.check_key(key)?;
        let now_ms = self.0.clock.now_ms();
        let view = self.0.peers.view();
        match (view.owner(&group.name, key), caller) {
            (Owner::Here, _) => self.read_owned(group, key, caller, now_ms, false, gathering),
            (Owner::There(_), Caller::Peer { .. } | Caller::StandIn) => {
                self.0.metrics.not_owner.inc();
                self.read_owned(group, key, caller, now_ms, true, gathering)
            }
            (Owner::There(_), Caller::Application) => {
                if let Some(answer) = group.hot_copy(key, now_ms) {
                    group.metrics.count(CountedAs::HitHot);
                    let spread_ms = group.spread.life_ms(key);
                    return Ok(Lookup::Done(Ok(Answer { spread_ms, ..answer })));
                }
                let place = self.0.waiting.enter(caller.requester())?;
                let flight = self.forward(group, key, caller, gathering)?;
                Ok(Lookup::Wait(Wait::new(place, flight, group, caller, Awaited::Owner, false)))
            }
        }
    }
}
