//! What the files of an earlier process say, or why they cannot be trusted. Pure.

use larder_proto::v1::journal_frame::Frame;
use larder_proto::v1::{self, AppliedLog, JournalHeader, LogPosition, SnapshotHeader};
use larder_proto::v1::{SnapshotGroup, TimeOfWriting};

use super::time;
use crate::peers::{Invalidation, LogImage, Past, Saved, from_wire, to_wire};

/// Processes whose log is continued. A peer that last synced with an earlier one starts anew.
const MAX_PREDECESSORS: usize = 32;

/// Why nothing is restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Doubt {
    #[error("the files belong to member {member:?} of cluster {cluster:?}")]
    Foreign { cluster: String, member: String },
    #[error("the clock went backwards")]
    Clock,
    #[error("journal {number} is missing or incomplete")]
    Journal { number: u64 },
    #[error("the system stopped before the journal was on the disk")]
    NotOnDisk,
}

/// A journal as it was read. Its last frame may have been cut.
#[derive(Debug, Clone, Default)]
pub(super) struct JournalContent {
    pub(super) header: JournalHeader,
    pub(super) frames: Vec<Frame>,
}

/// A snapshot whose logs are complete.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) past: Past,
    /// This member's invalidations since the entries were read.
    pub(super) replay: Vec<Invalidation>,
    pub(super) groups: Vec<SnapshotGroup>,
    /// Time from the reading of the entries to the start of this process's clock, ms.
    pub(super) away_ms: u64,
    pub(super) next_journal: u64,
}

/// Joins a snapshot's header with the journals that follow, in order. `uptime_ms` is how long this
/// process has been running at `now`.
pub(super) fn assemble(
    header: SnapshotHeader,
    journals: Vec<JournalContent>,
    now: &TimeOfWriting,
    uptime_ms: u64,
) -> Result<Opened, Doubt> {
    let written = header.written.clone().unwrap_or_default();
    let elapsed_ms = time::between(&written, now).ok_or(Doubt::Clock)?;
    let away_ms = elapsed_ms.saturating_sub(uptime_ms);
    let mut own = header.own;
    let mut log = LogImage {
        folded: header
            .folded
            .into_iter()
            .map(|what| (what.number, from_wire(what).group))
            .collect(),
        end: own.last().map_or(0, |end| end.number),
        entries: header.entries.into_iter().map(from_wire).collect(),
    };
    let (applied, mut met) = (header.applied, Vec::new());
    let mut next_journal = header.journal;
    let mut replay = Vec::new();
    if !is_kept(&journals, &now.boot_id) {
        return Err(Doubt::NotOnDisk);
    }
    for JournalContent { header, frames } in journals {
        let doubt = Doubt::Journal { number: next_journal };
        let begins_at = header.log_end.unwrap_or_default();
        if header.number != next_journal || begins_at.number != log.end {
            return Err(doubt);
        }
        if own.last().is_none_or(|last| last.incarnation != begins_at.incarnation) {
            own.push(begins_at);
        }
        for frame in frames {
            match frame {
                Frame::Own(what) if what.number == log.end + 1 => {
                    log.end += 1;
                    let what = from_wire(what);
                    log.entries.push(what.clone());
                    replay.push(what);
                }
                Frame::Met(log) => {
                    let knows = |known: &AppliedLog| known.incarnation == log.incarnation;
                    if !applied.iter().chain(&met).any(knows) {
                        met.push(log);
                    }
                }
                Frame::Closed(_) => {}
                Frame::Own(_) | Frame::Header(_) => return Err(doubt),
            }
        }
        own.last_mut().expect("just added").number = log.end;
        next_journal += 1;
    }
    own.drain(..own.len().saturating_sub(MAX_PREDECESSORS));
    if next_journal == header.journal {
        return Err(Doubt::Journal { number: next_journal });
    }
    let cache_age_ms = header.cache_age_ms.saturating_add(away_ms);
    let away = Some(away_ms);
    let past = Past { predecessors: own, log, applied, met, cache_age_ms, away_ms: away };
    Ok(Opened { past, replay, groups: header.groups, away_ms, next_journal })
}

/// What a process writes is in the system's memory at once, and survives the process. It survives
/// the system only if it was flushed, as at the end of a drain.
fn is_kept(journals: &[JournalContent], boot_id: &str) -> bool {
    journals.iter().all(|journal| time::is_same_boot(&journal.header.boot_id, boot_id))
        || journals.last().is_some_and(|last| matches!(last.frames.last(), Some(Frame::Closed(_))))
}

/// The header of a snapshot with these logs. Its other fields are the caller's.
pub(super) fn to_header(saved: Saved) -> SnapshotHeader {
    let Saved { own, log, applied, cache_age_ms } = saved;
    let first = log.end - log.entries.len() as u64 + 1;
    let folded = log.folded.into_iter();
    let folded = folded.map(|(number, group)| to_wire(number, &Invalidation::whole(group)));
    let entries = (first..).zip(&log.entries).map(|(number, what)| to_wire(number, what));
    SnapshotHeader {
        own,
        folded: folded.collect(),
        entries: entries.collect(),
        applied,
        cache_age_ms,
        ..SnapshotHeader::default()
    }
}

/// The frame of one of this member's invalidations.
pub(super) fn own_frame(number: u64, what: &Invalidation) -> v1::JournalFrame {
    v1::JournalFrame { frame: Some(Frame::Own(to_wire(number, what))) }
}

/// The first frame of a journal.
pub(super) fn journal_header(
    identity: (&str, &str),
    number: u64,
    log_end: LogPosition,
) -> v1::JournalFrame {
    let header = JournalHeader {
        cluster: identity.0.to_owned(),
        member: identity.1.to_owned(),
        number,
        log_end: Some(log_end),
        boot_id: time::now().boot_id,
    };
    v1::JournalFrame { frame: Some(Frame::Header(header)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE_MS: u64 = 60_000;

    fn at(boot_id: &str, ms: u64) -> TimeOfWriting {
        TimeOfWriting { boot_id: boot_id.into(), since_boot_ms: ms, unix_ms: ms }
    }

    fn position(incarnation: u64, number: u64) -> LogPosition {
        LogPosition { incarnation, number }
    }

    fn header() -> SnapshotHeader {
        SnapshotHeader {
            written: Some(at("a", 1_000)),
            cache_age_ms: AGE_MS,
            own: vec![position(1, 4)],
            journal: 3,
            ..SnapshotHeader::default()
        }
    }

    fn journal(number: u64, log_end: LogPosition, own: &[u64]) -> JournalContent {
        let boot_id = "a".into();
        let log_end = Some(log_end);
        let header = JournalHeader { number, log_end, boot_id, ..JournalHeader::default() };
        let what = Invalidation::whole(Some("g".into()));
        let frames = own.iter().map(|number| Frame::Own(to_wire(*number, &what))).collect();
        JournalContent { header, frames }
    }

    fn open(journals: Vec<JournalContent>, boot_id: &str) -> Result<Opened, Doubt> {
        assemble(header(), journals, &at(boot_id, 3_000), 500)
    }

    #[test]
    fn journals_of_several_processes_continue_the_log() {
        let journals = vec![journal(3, position(1, 4), &[5, 6]), journal(4, position(2, 6), &[7])];
        let opened = open(journals, "a").expect("complete");
        assert_eq!((opened.replay.len(), opened.past.log.end, opened.next_journal), (3, 7, 5));
        assert_eq!(opened.past.predecessors, [position(1, 6), position(2, 7)]);
        assert_eq!(opened.away_ms, 1_520);
        assert_eq!(opened.past.cache_age_ms, AGE_MS + 1_520);
    }

    #[test]
    fn a_missing_journal_or_number_is_a_doubt() {
        let doubt = |number| Some(Doubt::Journal { number });
        assert_eq!(open(Vec::new(), "a").err(), doubt(3));
        assert_eq!(open(vec![journal(4, position(1, 4), &[])], "a").err(), doubt(3));
        assert_eq!(open(vec![journal(3, position(1, 4), &[6])], "a").err(), doubt(3));
        let cut = vec![journal(3, position(1, 4), &[5]), journal(4, position(1, 6), &[7])];
        assert_eq!(open(cut, "a").err(), doubt(4));
    }

    #[test]
    fn after_a_restart_of_the_system_only_a_closed_journal_is_complete() {
        let mut last = journal(3, position(1, 4), &[5]);
        assert_eq!(open(vec![last.clone()], "b").err(), Some(Doubt::NotOnDisk));
        last.frames.push(Frame::Closed(v1::JournalClosed {}));
        assert!(open(vec![last.clone()], "b").is_ok());
        // An invalidation after the end of the drain.
        let what = to_wire(6, &Invalidation::whole(None));
        last.frames.push(Frame::Own(what));
        assert_eq!(open(vec![last], "b").err(), Some(Doubt::NotOnDisk));
    }

    #[test]
    fn a_first_contact_is_kept_without_a_position() {
        let met = |incarnation| AppliedLog { member: "b".into(), incarnation, number: None };
        let mut journal = journal(3, position(1, 4), &[]);
        journal.frames.extend([Frame::Met(met(8)), Frame::Met(met(9)), Frame::Met(met(9))]);
        let mut header = header();
        header.applied = vec![AppliedLog { number: Some(2), ..met(8) }];
        let opened = assemble(header, vec![journal], &at("a", 3_000), 0).expect("complete");
        assert_eq!(opened.past.applied, [AppliedLog { number: Some(2), ..met(8) }]);
        assert_eq!(opened.past.met, [met(9)]);
    }

    #[test]
    fn a_clock_that_went_backwards_is_a_doubt() {
        let journals = vec![journal(3, position(1, 4), &[])];
        assert_eq!(assemble(header(), journals, &at("a", 999), 0).err(), Some(Doubt::Clock));
    }
}
