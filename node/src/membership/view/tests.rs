//! Views from events: order, grace, shrink guard, rebuilds.

use larder_proto::contract::{Freshness, HttpOrigin, Origin, OriginLimits};
use larder_proto::registry::Metadata;
use proptest::prelude::*;

use super::*;

const RULES: fn() -> Rules =
    || Rules { own_name: "m0".into(), window_ms: 10_000, silence_ms: 5_000, grace_ms: 60_000 };

fn registration(uid: &str) -> Registration {
    Registration {
        op: 0,
        address: "10.0.0.1:7600".into(),
        metadata: Metadata {
            uid: uid.into(),
            peer_address: "10.0.0.1:7601".into(),
            http_address: "10.0.0.1:7680".into(),
            weight: 1,
            zone: None,
            version: "0.1.0".into(),
        },
    }
}

fn contract(generation: i64) -> GroupContract {
    GroupContract {
        policy: "Lru".into(),
        origin: Origin::Http(HttpOrigin::new("http://o/{key}")),
        freshness: Freshness {
            ttl_ms: 1,
            jitter_percent: 0,
            stale_while_revalidate_ms: 0,
            stale_if_error_ms: 0,
            negative_ttl_ms: 0,
            early_refresh_percent: 0,
        },
        origin_limits: OriginLimits::new(1, 1),
        guaranteed_bytes: 0,
        generation,
    }
}

fn member(name: &str) -> Entry {
    Entry::Member(name.into(), Read::Value(Box::new(registration(&format!("uid of {name}")))))
}

fn gone(name: &str) -> Entry {
    Entry::Member(name.into(), Read::Gone)
}

fn leaving(name: &str) -> Entry {
    let registration = Registration { op: LEAVING, ..registration(&format!("uid of {name}")) };
    Entry::Member(name.into(), Read::Value(Box::new(registration)))
}

fn group(name: &str, generation: i64) -> Entry {
    Entry::Group(name.into(), Read::Value(Box::new(contract(generation))))
}

/// A view to which events are applied one after the other.
struct Story {
    view: MembershipView,
    revision: u64,
    now_ms: u64,
}

impl Story {
    fn of(members: usize) -> Self {
        let mut story = Self { view: MembershipView::default(), revision: 100, now_ms: 0 };
        let mut entries: Vec<Entry> = (0..members).map(|n| member(&format!("m{n}"))).collect();
        entries.push(group("g", 1));
        story.apply(Event::Listed { cluster: 7, revision: 100, entries });
        story
    }

    fn apply(&mut self, event: Event) -> &mut Self {
        self.view = super::apply(&self.view, event, &RULES(), self.now_ms);
        self
    }

    fn change(&mut self, entry: Entry) -> &mut Self {
        self.revision += 1;
        self.apply(Event::Changed(vec![(self.revision, entry)]))
    }

    /// Time passes, and the departed are evaluated as often as in a running member.
    fn after(&mut self, ms: u64) -> &mut Self {
        let end_ms = self.now_ms + ms;
        while self.now_ms + EVALUATION_INTERVAL_MS < end_ms {
            self.now_ms += EVALUATION_INTERVAL_MS;
            self.apply(Event::Ticked);
        }
        self.now_ms = end_ms;
        self.apply(Event::Ticked)
    }

    /// Time passes in which this member does nothing.
    fn stalled_for(&mut self, ms: u64) -> &mut Self {
        self.now_ms += ms;
        self
    }

    fn names(&self) -> Vec<&str> {
        self.view.members.keys().map(String::as_str).collect()
    }
}

#[test]
fn deregistering_removes_a_member_at_once() {
    let mut story = Story::of(3);
    story.change(leaving("m1"));
    assert_eq!(story.names(), ["m0", "m2"]);
    story.change(gone("m1"));
    assert!(story.view.departed.is_empty());
    assert!(!story.view.distrusted);
}

#[test]
fn a_member_without_lease_and_sign_of_life_is_removed() {
    let mut story = Story::of(3);
    story.change(gone("m1")).after(4_999);
    assert_eq!(story.names(), ["m0", "m1", "m2"]);
    story.after(1);
    assert_eq!(story.names(), ["m0", "m2"]);
}

#[test]
fn a_member_that_answers_is_kept_without_a_lease_for_the_grace_time() {
    let mut story = Story::of(3);
    story.change(gone("m1"));
    for _ in 0..14 {
        story.after(4_000).apply(Event::PeerAnswered("m1".into()));
        assert_eq!(story.names(), ["m0", "m1", "m2"], "at {} ms", story.now_ms);
    }
    story.after(4_000);
    assert_eq!(story.names(), ["m0", "m2"], "the grace time is over");
}

#[test]
fn a_member_that_does_not_answer_is_removed_with_its_lease() {
    let mut story = Story::of(4);
    story.apply(Event::PeerFailed("m1".into()));
    assert_eq!(story.names().len(), 4, "the lease still exists");
    story.change(gone("m1"));
    assert_eq!(story.names(), ["m0", "m2", "m3"]);
    story.change(gone("m2")).apply(Event::PeerFailed("m2".into()));
    assert!(story.view.distrusted, "two of four in one window");
    assert_eq!(story.names(), ["m0", "m2", "m3"]);
}

#[test]
fn a_short_loss_of_a_lease_leaves_the_ring_unchanged() {
    let mut story = Story::of(4);
    let ring = story.view.members.clone();
    story.change(gone("m1")).after(3_000);
    assert_eq!(story.view.members, ring);
    story.change(member("m1"));
    assert_eq!(story.view.members, ring);
    story.after(60_000);
    assert_eq!(story.view.members, ring);
}

#[test]
fn when_every_lease_is_revoked_the_ring_is_kept() {
    let mut story = Story::of(5);
    let ring = story.view.members.clone();
    for n in 0..5 {
        story.change(gone(&format!("m{n}")));
    }
    assert!(story.view.distrusted);
    assert_eq!(story.view.counts.distrusts, 1);
    story.after(59_000);
    assert_eq!(story.view.members, ring);
    for n in 0..5 {
        story.change(member(&format!("m{n}")));
    }
    assert!(!story.view.distrusted);
    assert_eq!(story.view.members, ring);
}

#[test]
fn the_last_of_several_lost_members_is_kept_when_the_others_have_registered_again() {
    // Silent for longer than the bound, and answering for longer than the grace time.
    for (ms, answers) in [(6_000, 0), (1_000, 15)] {
        let mut story = Story::of(3);
        let ring = story.view.members.clone();
        for n in 0..3 {
            story.change(gone(&format!("m{n}")));
        }
        for _ in 0..answers {
            story.after(4_000);
            (0..3).for_each(|n| _ = story.apply(Event::PeerAnswered(format!("m{n}"))));
        }
        story.after(ms);
        // The first two end the distrust, long after the third was heard of last.
        for n in 0..3 {
            story.change(member(&format!("m{n}"))).after(100);
            assert_eq!(story.view.members, ring, "m{n} has registered again");
        }
    }
}

#[test]
fn a_member_that_stays_silent_after_the_others_have_registered_again_is_removed() {
    let mut story = Story::of(3);
    (0..3).for_each(|n| _ = story.change(gone(&format!("m{n}"))));
    story.after(20_000).change(member("m0")).change(member("m1")).after(4_999);
    assert_eq!(story.names(), ["m0", "m1", "m2"]);
    story.after(1);
    assert_eq!(story.names(), ["m0", "m1"]);
}

#[test]
fn the_time_in_which_this_member_is_stalled_is_no_silence_of_others() {
    let mut story = Story::of(3);
    story.change(gone("m1")).after(1_000).stalled_for(20_000).apply(Event::Ticked);
    assert_eq!(story.names(), ["m0", "m1", "m2"], "its registration may not have been read yet");
    story.after(4_999);
    assert_eq!(story.names(), ["m0", "m1", "m2"]);
    story.after(1);
    assert_eq!(story.names(), ["m0", "m2"]);
}

#[test]
fn distrust_ends_once_the_failing_members_are_removed() {
    let mut story = Story::of(5);
    for name in ["m1", "m2"] {
        story.change(gone(name)).apply(Event::PeerFailed(name.into()));
    }
    // The first is removed at once; the second triggers the shrink guard.
    story.change(gone("m3"));
    for _ in 0..20 {
        story.after(4_000).apply(Event::PeerAnswered("m3".into()));
    }
    assert_eq!(
        story.names(),
        ["m0", "m4"],
        "the failing members are removed, then the registry is trusted again"
    );
    assert!(!story.view.distrusted);
}

#[test]
fn this_member_never_removes_itself() {
    let mut story = Story::of(1);
    story.change(gone("m0")).after(1_000_000);
    assert_eq!(story.names(), ["m0"]);
}

#[test]
fn a_successor_does_not_inherit_reports_about_its_predecessor() {
    let mut story = Story::of(2);
    story.apply(Event::PeerFailed("m1".into()));
    story.change(member("m1"));
    assert!(story.view.failing.contains("m1"), "the same process");
    story.change(Entry::Member("m1".into(), Read::Value(Box::new(registration("new")))));
    assert!(story.view.failing.is_empty());
    assert_eq!(story.view.members["m1"].metadata.uid, "new");
}

#[test]
fn unreadable_values_are_counted_and_change_nothing() {
    let mut story = Story::of(2);
    story.change(Entry::Member("m1".into(), Read::Unreadable));
    story.change(Entry::Group("g".into(), Read::Unreadable));
    let entries = vec![member("m0"), Entry::Member("m1".into(), Read::Unreadable)];
    story.apply(Event::Listed { cluster: 7, revision: 200, entries });
    assert_eq!(story.names(), ["m0", "m1"]);
    assert!(story.view.departed.is_empty());
    assert_eq!(story.view.counts.unreadable, 3);
}

#[test]
fn changes_delivered_twice_apply_once() {
    let mut story = Story::of(2);
    story.change(group("g", 5));
    story.apply(Event::Progressed(150));
    let before = story.view.clone();
    story.apply(Event::Changed(vec![(101, group("g", 1)), (120, gone("m1"))]));
    assert_eq!(story.view, before);
    story.apply(Event::Changed(vec![(151, group("g", 6)), (151, group("h", 1))]));
    assert_eq!(story.view.groups.len(), 2, "one revision may carry several keys");
}

#[test]
fn a_listing_after_a_compaction_shows_what_was_missed() {
    let mut story = Story::of(5);
    let entries = (0..6).filter(|n| *n != 1).map(|n| member(&format!("m{n}"))).collect();
    story.apply(Event::Listed { cluster: 7, revision: 300, entries });
    assert!(story.view.groups.is_empty(), "a group deleted meanwhile is gone");
    assert_eq!(story.names().len(), 6);
    assert_eq!(story.view.departed.keys().collect::<Vec<_>>(), ["m1"]);
    assert_eq!((story.view.counts.listings, story.view.counts.rebuilds), (2, 0));
}

#[test]
fn a_rebuilt_empty_registry_removes_neither_members_nor_groups() {
    for (cluster, revision) in [(8, 500), (7, 3)] {
        let mut story = Story::of(3);
        let (members, groups) = (story.view.members.clone(), story.view.groups.clone());
        story.apply(Event::Listed { cluster, revision, entries: Vec::new() });
        assert_eq!(story.view.counts.rebuilds, 1);
        assert_eq!((&story.view.members, &story.view.groups), (&members, &groups));
        story.revision = revision;
        for n in 0..3 {
            story.change(member(&format!("m{n}")));
        }
        let entries = (0..3).map(|n| member(&format!("m{n}"))).collect();
        story.apply(Event::Listed { cluster, revision: revision + 10, entries });
        assert_eq!(story.view.groups, groups, "no deletion of the group was seen");
        story.revision = revision + 10;
        story.change(group("g", 2)).change(Entry::Group("g".into(), Read::Gone));
        assert!(story.view.groups.is_empty());
        assert_eq!(story.view.members, members);
    }
}

proptest! {
    /// For any sequence of events: the departed are members, this member is kept, and while the
    /// registry is distrusted no departed member is removed before the grace time is over.
    #[test]
    fn distrust_keeps_the_ring_for_any_sequence_of_events(
        members in 2usize..12,
        steps in prop::collection::vec((0usize..12, 0u8..4, 0u64..3_000), 1..60),
    ) {
        let mut story = Story::of(members);
        for (index, kind, ms) in steps {
            let name = format!("m{}", index % members);
            match kind {
                0 | 1 => story.change(gone(&name)),
                2 => story.apply(Event::PeerFailed(name)),
                _ => story.change(member(&name)),
            };
            let (was_distrusted, before) = (story.view.distrusted, story.view.clone());
            story.after(ms);
            prop_assert!(story.view.members.contains_key("m0"));
            let after = &story.view;
            prop_assert!(after.departed.keys().all(|name| after.members.contains_key(name)));
            if was_distrusted && after.distrusted {
                for (name, departed) in &before.departed {
                    let in_grace = story.now_ms < departed.at_ms + RULES().grace_ms;
                    prop_assert!(!in_grace || after.members.contains_key(name), "{name}");
                }
            }
        }
    }
}
