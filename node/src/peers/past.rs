//! What a member keeps of the logs over a restart, and when that is complete again.
//!
//! A member that restores entries of its previous process is in the place of one that was frozen
//! since the entries were saved: it has to apply what was invalidated in between. [`judge`] decides
//! whether it has. Pure.
//!
//! # The rule
//! An invalidation is in the log of the member that was called, and at least every member that
//! confirmed it has applied it. So the restored entries are current once each log that was in use
//! since they were saved is applied to its end. A log whose process is gone, or does not answer, is
//! applied to its end if a *witness* has not applied more of it: a member that has been running the
//! whole time.

use std::collections::BTreeSet;
use std::sync::Arc;

use larder_proto::v1::{AppliedLog, LogPosition};

use super::log::LogImage;

/// Stands for an unknown number in a report of [`Witnessed`].
pub(super) const UNKNOWN_NUMBER: u64 = u64::MAX;
/// Logs of processes that were replaced, whose last use is kept. Beyond the limit the oldest counts
/// as one that nobody can replay.
const MAX_FORMER: usize = 256;

/// The logs as an earlier process of this member saved them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Past {
    /// The processes whose log is continued, oldest first, each with the end of what was kept.
    pub(crate) predecessors: Vec<LogPosition>,
    pub(crate) log: LogImage,
    /// How far other logs had been applied when the entries were read.
    pub(crate) applied: Vec<AppliedLog>,
    /// Logs that were met between then and the end of the process, without positions.
    pub(crate) met: Vec<AppliedLog>,
    /// How long the member's cache existed at the start of this process, ms.
    pub(crate) cache_age_ms: u64,
    /// How long before the start of this process `applied` was saved, ms; `None` if no entries were
    /// saved with it.
    pub(crate) away_ms: Option<u64>,
}

/// Whether restored entries may be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RestoreVerdict {
    /// Everything that was invalidated meanwhile has been applied.
    Current,
    /// Not known before this member answers.
    WaitsFor(Arc<str>),
    /// A log is gone, and with it what this member missed of it.
    Lost,
}

/// A peer of the ring, as far as the verdict needs it.
#[derive(Debug, Clone)]
pub(super) struct RingPeer {
    pub(super) name: Arc<str>,
    /// `None` until its log has been applied to its end.
    pub(super) answer: Option<PeerAnswer>,
}

/// What a peer said when its log had been applied to its end.
#[derive(Debug, Clone, Default)]
pub(super) struct PeerAnswer {
    pub(super) incarnation: u64,
    /// The processes whose log it continues.
    pub(super) predecessors: Vec<u64>,
    pub(super) witnessed: Vec<LogPosition>,
}

/// When the logs of replaced processes were last applied from.
#[derive(Debug, Default)]
pub(super) struct FormerLogs(Vec<FormerLog>);

#[derive(Debug, Clone, Copy)]
struct FormerLog {
    position: LogPosition,
    last_ms: u64,
}

impl FormerLogs {
    pub(super) fn add(&mut self, position: LogPosition, last_ms: u64) {
        self.0.push(FormerLog { position, last_ms });
        if self.0.len() > MAX_FORMER {
            let oldest = self.0.remove(0);
            let first = &mut self.0[0];
            *first = FormerLog {
                position: LogPosition { incarnation: 0, number: UNKNOWN_NUMBER },
                last_ms: first.last_ms.max(oldest.last_ms),
            };
        }
    }

    pub(super) fn used_since(&self, since_ms: u64) -> impl Iterator<Item = LogPosition> {
        self.0.iter().filter(move |log| log.last_ms >= since_ms).map(|log| log.position)
    }
}

/// Whether a member that saved `saved`, and then met `met`, has applied everything up to now. `own`
/// are the incarnations of its own log.
pub(super) fn judge(
    saved: &[AppliedLog],
    met: &[AppliedLog],
    own: &[u64],
    ring: &[RingPeer],
) -> RestoreVerdict {
    let answers = || ring.iter().filter_map(|peer| peer.answer.as_ref());
    let mut complete: BTreeSet<u64> = own.iter().copied().collect();
    for answer in answers() {
        complete.insert(answer.incarnation);
        complete.extend(&answer.predecessors);
    }
    let covers = |log: &LogPosition| {
        complete.contains(&log.incarnation)
            || saved.iter().any(|saved| {
                saved.incarnation == log.incarnation
                    && saved.number.is_some_and(|number| number >= log.number)
            })
    };
    let silent = ring.iter().find(|peer| peer.answer.is_none()).map(|peer| peer.name.clone());
    let beyond = answers().flat_map(|answer| &answer.witnessed).any(|log| !covers(log));
    if beyond {
        return silent.map_or(RestoreVerdict::Lost, RestoreVerdict::WaitsFor);
    }
    let has_witness =
        answers().any(|answer| saved.iter().any(|log| log.incarnation == answer.incarnation));
    if has_witness {
        return RestoreVerdict::Current;
    }
    if let Some(silent) = silent {
        return RestoreVerdict::WaitsFor(silent);
    }
    let mut known = saved.iter().chain(met);
    match known.find(|log| !complete.contains(&log.incarnation)) {
        None => RestoreVerdict::Current,
        // Its name is in use by a process that does not continue its log.
        Some(log) if ring.iter().any(|peer| *peer.name == *log.member) => RestoreVerdict::Lost,
        Some(log) => RestoreVerdict::WaitsFor(log.member.as_str().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(member: &str, incarnation: u64, number: u64) -> AppliedLog {
        AppliedLog { member: member.into(), incarnation, number: Some(number) }
    }

    fn silent(name: &str) -> RingPeer {
        RingPeer { name: name.into(), answer: None }
    }

    fn peer(name: &str, incarnation: u64, witnessed: &[(u64, u64)]) -> RingPeer {
        let position = |&(incarnation, number)| LogPosition { incarnation, number };
        let witnessed = witnessed.iter().map(position).collect();
        let answer = PeerAnswer { incarnation, predecessors: Vec::new(), witnessed };
        RingPeer { name: name.into(), answer: Some(answer) }
    }

    fn continuing(name: &str, incarnation: u64, predecessor: u64) -> RingPeer {
        let mut peer = peer(name, incarnation, &[]);
        peer.answer.as_mut().expect("it answers").predecessors.push(predecessor);
        peer
    }

    fn verdict(saved: &[AppliedLog], ring: &[RingPeer]) -> RestoreVerdict {
        judge(saved, &[], &[1], ring)
    }

    #[test]
    fn a_member_alone_is_current() {
        assert_eq!(verdict(&[], &[]), RestoreVerdict::Current);
    }

    #[test]
    fn entries_wait_until_a_peer_has_answered() {
        let logs = [saved("b", 2, 5), saved("c", 3, 5)];
        assert_eq!(
            verdict(&logs, &[silent("b"), silent("c")]),
            RestoreVerdict::WaitsFor("b".into())
        );
        assert_eq!(
            verdict(&logs, &[peer("b", 2, &[]), peer("c", 3, &[])]),
            RestoreVerdict::Current
        );
    }

    #[test]
    fn a_witness_stands_in_for_a_silent_or_replaced_member() {
        let logs = [saved("b", 2, 5), saved("c", 3, 5)];
        let covered = peer("b", 2, &[(3, 5)]);
        assert_eq!(verdict(&logs, &[covered.clone(), silent("c")]), RestoreVerdict::Current);
        assert_eq!(verdict(&logs, &[covered.clone(), peer("c", 9, &[])]), RestoreVerdict::Current);
        assert_eq!(verdict(&logs, &[covered]), RestoreVerdict::Current);
    }

    #[test]
    fn what_a_witness_applied_of_a_lost_log_is_lost() {
        let logs = [saved("b", 2, 5), saved("c", 3, 5)];
        let beyond = peer("b", 2, &[(3, 6)]);
        assert_eq!(
            verdict(&logs, &[beyond.clone(), silent("c")]),
            RestoreVerdict::WaitsFor("c".into())
        );
        assert_eq!(verdict(&logs, &[beyond, peer("c", 9, &[])]), RestoreVerdict::Lost);
        // A member that joined and left meanwhile.
        let visitor = peer("b", 2, &[(7, 1)]);
        assert_eq!(verdict(&logs[..1], &[visitor]), RestoreVerdict::Lost);
    }

    #[test]
    fn a_replaced_member_without_a_witness_is_lost_and_a_missing_one_may_return() {
        let logs = [saved("b", 2, 5)];
        assert_eq!(verdict(&logs, &[peer("b", 9, &[])]), RestoreVerdict::Lost);
        assert_eq!(verdict(&logs, &[]), RestoreVerdict::WaitsFor("b".into()));
        assert_eq!(verdict(&logs, &[continuing("b", 9, 2)]), RestoreVerdict::Current);
    }

    #[test]
    fn a_restored_member_is_no_witness() {
        let logs = [saved("b", 2, 5), saved("c", 3, 5)];
        let ring = [continuing("b", 9, 2), silent("c")];
        assert_eq!(verdict(&logs, &ring), RestoreVerdict::WaitsFor("c".into()));
    }

    #[test]
    fn a_member_that_was_met_after_the_entries_were_saved_is_no_witness() {
        let met = [AppliedLog { number: None, ..saved("c", 3, 0) }];
        let logs = [saved("b", 2, 5)];
        let verdict = |ring: &[RingPeer]| judge(&logs, &met, &[1], ring);
        let lost = [peer("b", 9, &[]), peer("c", 3, &[])];
        assert_eq!(verdict(&lost), RestoreVerdict::Lost);
        let whole = [peer("b", 2, &[]), peer("c", 3, &[])];
        assert_eq!(verdict(&whole), RestoreVerdict::Current);
        // Its log is needed too.
        assert_eq!(verdict(&[continuing("b", 9, 2)]), RestoreVerdict::WaitsFor("c".into()));
    }

    #[test]
    fn logs_beyond_the_limit_count_as_ones_that_cannot_be_replayed() {
        let mut former = FormerLogs::default();
        for n in 1..=MAX_FORMER as u64 + 3 {
            former.add(LogPosition { incarnation: n, number: 1 }, n);
        }
        assert_eq!(former.0.len(), MAX_FORMER);
        let unknown = LogPosition { incarnation: 0, number: UNKNOWN_NUMBER };
        assert_eq!(former.used_since(4).next(), Some(unknown));
        assert_eq!(former.used_since(5).next().expect("some").incarnation, 5);
    }
}
