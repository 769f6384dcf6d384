use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIMITS: LogLimits =
    LogLimits { entries: 4, bytes: 10_000, folded_groups: 2, run_entries: 2, run_bytes: 10_000 };

fn key(group: &str, key: &str) -> Invalidation {
    Invalidation {
        keys: [Bytes::copy_from_slice(key.as_bytes())].into(),
        ..Invalidation::whole(Some(group.into()))
    }
}

fn filled(groups: &[&str]) -> InvalidationLog {
    let mut log = InvalidationLog::new(LIMITS);
    for (n, group) in groups.iter().enumerate() {
        log.append(key(group, &n.to_string()), 10 * (n as u64 + 1));
    }
    log
}

/// Numbers and groups of a run, and the position after it.
fn outline(run: &Run) -> (Vec<(u64, &str, bool)>, u64) {
    let one = |(number, what): &'_ (u64, Invalidation)| (*number, what.keys.is_empty());
    let groups = run.invalidations.iter().map(|(_, what)| what.group.as_deref().unwrap_or("*"));
    let entries = run.invalidations.iter().map(one).zip(groups);
    (entries.map(|((number, whole), group)| (number, group, whole)).collect(), run.through)
}

#[test]
fn a_receiver_gets_what_follows_its_position_in_bounded_runs() {
    let log = filled(&["a", "b", "a"]);
    assert_eq!(outline(&log.after(0)), (vec![(1, "a", false), (2, "b", false)], 2));
    assert_eq!(outline(&log.after(2)), (vec![(3, "a", false)], 3));
    assert_eq!(outline(&log.after(3)), (vec![], 3));
}

#[test]
fn a_receiver_behind_the_log_drops_only_the_groups_that_it_missed() {
    // Folded: 1 to 3. Kept: 4 to 7.
    let log = filled(&["a", "b", "b", "c", "c", "c", "c"]);
    let kept = [(4, "c", false), (5, "c", false)];
    let (entries, through) = (log.after(0), log.after(1));
    assert_eq!(outline(&entries).0, [&[(1, "a", true), (3, "b", true)][..], &kept].concat());
    assert_eq!(outline(&through), ([&[(3, "b", true)][..], &kept].concat(), 5));
    assert_eq!(outline(&log.after(3)).0, kept);
}

#[test]
fn the_groups_of_a_range_include_folded_ones_and_leave_out_removals_of_copies() {
    let groups = |log: &InvalidationLog, from, to| -> Vec<String> {
        let name = |group: Option<Arc<str>>| group.as_deref().unwrap_or("*").to_owned();
        log.groups(from, to).into_iter().map(name).collect()
    };
    let mut log = filled(&["a", "b", "c"]);
    log.append(Invalidation { copies_only: true, ..key("d", "4") }, 40);
    assert_eq!(groups(&log, 2, 4), ["b", "c"]);
    assert_eq!(groups(&log, 3, 3), ["c"]);
    // 1 and 2 are folded now.
    log.append(key("e", "5"), 50);
    log.append(key("f", "6"), 60);
    assert_eq!(groups(&log, 2, 3), ["b", "c"]);
    assert_eq!(groups(&log, 1, 2), ["a", "b"]);
}

#[test]
fn too_many_folded_groups_become_one_entry_for_all_groups() {
    let log = filled(&["a", "b", "c", "d", "e", "f", "g", "h"]);
    // 3 exceeded the two folded groups, 4 was folded after that.
    let whole = [(3, "*", true), (4, "d", true), (5, "e", false), (6, "f", false)];
    assert_eq!(outline(&log.after(0)), (whole.to_vec(), 6));
    assert_eq!(outline(&log.after(3)).0, whole[1..]);
}

#[test]
fn a_receiver_skips_what_is_older_than_itself() {
    let log = filled(&["a", "b", "b", "c", "c", "c", "c"]);
    // Appended at 10, 20, ..., 70.
    for (started_ms, position) in [(0, 0), (10, 0), (11, 1), (25, 1), (31, 3), (45, 4), (71, 7)] {
        assert_eq!(log.position_at(started_ms), position, "{started_ms}");
    }
}

#[test]
fn the_log_is_bounded_in_bytes() {
    let mut log = InvalidationLog::new(LogLimits { bytes: 1_000, ..LIMITS });
    for n in 0..3 {
        log.append(key("a", &"k".repeat(400)), n);
    }
    assert_eq!(outline(&log.after(0)).0[0], (1, "a", true));
    assert!(log.bytes <= 1_000);
}

#[derive(Debug, Clone)]
enum Step {
    Append {
        group: u8,
        key: u8,
    },
    /// Receiver `0` or `1` fetches and applies one run.
    Replay {
        receiver: usize,
    },
    /// A receiver stores a value.
    Store {
        receiver: usize,
        group: u8,
        key: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (0..5u8, 0..3u8).prop_map(|(group, key)| Step::Append { group, key });
    let replay = (0..2usize).prop_map(|receiver| Step::Replay { receiver });
    let store = (0..2usize, 0..5u8, 0..3u8).prop_map(|(receiver, group, key)| Step::Store {
        receiver,
        group,
        key,
    });
    prop::collection::vec(prop_oneof![4 => append, 2 => replay, 3 => store], 1..80)
}

#[derive(Default)]
struct Receiver {
    position: u64,
    /// Group, key, and the end of the log when the value was stored.
    values: BTreeSet<(u8, u8, u64)>,
}

impl Receiver {
    fn apply(&mut self, run: &Run) {
        assert!(run.after <= self.position && run.through >= self.position);
        for (number, what) in &run.invalidations {
            assert!(*number > run.after && *number <= run.through);
            self.values.retain(|(group, key, _)| {
                let in_group = what.group.as_deref().is_none_or(|name| name == group.to_string());
                let named = what.keys.is_empty() || *what.keys[0] == *key.to_string().as_bytes();
                !(in_group && named)
            });
        }
        self.position = run.through;
    }
}

proptest! {
    #[test]
    fn a_receiver_at_a_position_holds_nothing_that_was_invalidated_up_to_it(steps in steps()) {
        let mut log = InvalidationLog::new(LIMITS);
        let mut appended = Vec::new();
        let mut receivers = [Receiver::default(), Receiver::default()];
        for (now_ms, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append { group, key: name } => {
                    let what = key(&group.to_string(), &name.to_string());
                    let number = log.append(what, now_ms as u64);
                    appended.push((group, name, number));
                }
                Step::Replay { receiver } => {
                    let run = log.after(receivers[receiver].position);
                    receivers[receiver].apply(&run);
                }
                Step::Store { receiver, group, key } => {
                    receivers[receiver].values.insert((group, key, log.end()));
                }
            }
            for receiver in &receivers {
                for (group, key, stored_at) in &receiver.values {
                    let outdated = appended.iter().any(|(g, k, number)| {
                        g == group && k == key && number > stored_at && *number <= receiver.position
                    });
                    prop_assert!(!outdated, "{group}/{key} of {stored_at} at {}", receiver.position);
                }
            }
        }
        for receiver in &mut receivers {
            while receiver.position < log.end() {
                let before = receiver.position;
                receiver.apply(&log.after(before));
                prop_assert!(receiver.position > before, "every run makes progress");
            }
        }
    }
}
