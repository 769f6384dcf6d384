//! Reads a key that belongs here: from the main store, or by a load.

use std::sync::Arc;

use larder_engine::{Tick, reload_early};
use larder_proto::v1::{Source, StaleReason};

use super::answer::Answer;
use super::error::{Awaited, Error};
use super::group::Group;
use super::load::StoreAs;
use super::shared::Cache;
use super::wait::{Caller, Lookup, Wait, counted_as};
use crate::freshness::Verdict;
use crate::gather::Gathering;
use crate::origin::Health;

impl Cache {
    /// Reads a key that this member owns, or that a peer takes it to own (`not_owner`).
    pub(super) fn read_owned(
        &self,
        group: &Arc<Group>,
        key: &[u8],
        caller: Caller,
        now_ms: u64,
        not_owner: bool,
        gathering: Option<&Gathering>,
    ) -> Result<Lookup, Error> {
        let done = |outcome: Result<Answer, Error>| {
            if caller == Caller::Application {
                group.metrics.count(counted_as(&outcome));
            }
            Ok(Lookup::Done(outcome.map(|answer| Answer { not_owner, ..answer })))
        };
        let mut stale_if_error = None;
        if let Some(hit) = group.main.get(key, Tick::from_millis(now_ms)) {
            let verdict = group.judge(&hit, now_ms);
            if let Verdict::Fresh { remaining_ms } = verdict {
                if self.is_reloaded_early(group, remaining_ms, now_ms) {
                    self.reload(group, key, StoreAs::EarlyRefresh, caller, gathering);
                }
                let answer = group.fresh(hit, Source::Local, remaining_ms, now_ms);
                let is_for_peer = caller != Caller::Application;
                let spread_ms = if is_for_peer { 0 } else { group.spread.life_ms(key) };
                return done(Ok(Answer { spread_ms, ..answer }));
            }
            match (verdict, group.origin_failure(now_ms)) {
                (Verdict::StaleAndReload | Verdict::StaleIfError, Some(reason)) => {
                    return done(Ok(group.stale(hit, reason, now_ms)));
                }
                (Verdict::StaleAndReload, None) => {
                    self.reload(group, key, StoreAs::Owned, caller, gathering);
                    return done(Ok(group.stale(hit, StaleReason::Revalidating, now_ms)));
                }
                (Verdict::StaleIfError, None) => stale_if_error = Some(hit),
                (Verdict::Expired | Verdict::Fresh { .. }, _) => {}
            }
        }
        match (self.wait_for_load(group, key, caller, not_owner, gathering), stale_if_error) {
            (Ok(wait), None) => Ok(Lookup::Wait(wait)),
            (Ok(wait), Some(_)) => Ok(Lookup::Wait(wait.or_stale(self, key))),
            (Err(error), Some(hit)) => done(Ok(group.stale(hit, error.stale_reason(), now_ms))),
            (Err(error @ Error::Overloaded { .. }), None) => Err(error),
            (Err(error), None) => done(Err(error)),
        }
    }

    /// True if this read of a fresh entry reloads it, so that its readers do not all find it
    /// expired at the same moment.
    fn is_reloaded_early(&self, group: &Group, remaining_ms: u64, now_ms: u64) -> bool {
        /// Load times before the end, at 100 percent, beyond which the probability is less than
        /// one in a million. Spares the random number.
        const WINDOW: u64 = 14;
        let percent = group.plan.freshness.early_refresh_percent;
        let Some(origin) = group.origin.as_ref().ok().filter(|_| percent > 0) else { return false };
        let load_ms = origin.mean_load_ms().max(1);
        if remaining_ms * 100 > load_ms.saturating_mul(WINDOW * u64::from(percent)) {
            return false;
        }
        let (now, end) = (Tick::from_millis(now_ms), Tick::from_millis(now_ms + remaining_ms));
        let beta = f64::from(percent) / 100.0;
        origin.health(now_ms) == Health::Working
            && reload_early(now, end, load_ms, beta, 1.0 - self.0.random.ratio())
    }

    /// Joins or starts the load of a key. The place comes first, so that a refused request starts
    /// no work.
    fn wait_for_load(
        &self,
        group: &Arc<Group>,
        key: &[u8],
        caller: Caller,
        not_owner: bool,
        gathering: Option<&Gathering>,
    ) -> Result<Wait, Error> {
        let place = self.0.waiting.enter(caller.requester())?;
        let flight = self.load(group, key, StoreAs::Owned, caller.requester(), gathering)?;
        Ok(Wait::new(place, flight, group, caller, Awaited::Origin, not_owner))
    }
}
