//! Reads a key that belongs here: from the main store, or by a load.

use std::sync::Arc;

use larder_engine::Tick;
use larder_proto::v1::Source;

use super::answer::Answer;
use super::error::{Awaited, Error};
use super::group::Group;
use super::load::StoreAs;
use super::shared::Cache;
use super::wait::{Caller, Lookup, Wait};
use crate::freshness::Verdict;
use crate::metrics::CountedAs;

impl Cache {
    /// Reads a key that this member owns, or that a peer takes it to own (`not_owner`).
    pub(super) fn read_owned(
        &self,
        group: &Arc<Group>,
        key: &[u8],
        caller: Caller,
        now_ms: u64,
        not_owner: bool,
    ) -> Result<Lookup, Error> {
        let done = |answer: Answer, counted_as| {
            if caller == Caller::Application {
                group.metrics.count(counted_as);
            }
            Ok(Lookup::Done(Ok(Answer { not_owner, ..answer })))
        };
        if let Some(hit) = group.main.get(key, Tick::from_millis(now_ms)) {
            match group.judge(&hit, now_ms) {
                Verdict::Fresh { remaining_ms } => {
                    let answer = Answer::fresh(hit, Source::Local, remaining_ms, now_ms);
                    return done(answer, CountedAs::HitLocal);
                }
                Verdict::StaleAndReload => {
                    if !group.is_origin_suspended(now_ms) {
                        self.reload(group, key);
                    }
                    return done(Answer::stale(hit, now_ms), CountedAs::Stale);
                }
                Verdict::StaleIfError if group.is_origin_suspended(now_ms) => {
                    return done(Answer::stale(hit, now_ms), CountedAs::Stale);
                }
                Verdict::StaleIfError | Verdict::Expired => {}
            }
        }
        let place = self.0.waiting.enter()?;
        let flight = self.load(group, key, StoreAs::Owned)?;
        Ok(Lookup::Wait(Wait::new(place, flight, group, caller, Awaited::Origin, not_owner)))
    }
}
