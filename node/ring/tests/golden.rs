//! Placement never changes: `tests/golden` holds owners, shares and moves of fixed rings.
//!
//! Members of different builds agree about owners only while these files stay unchanged.
//! `UPDATE_GOLDEN=1 cargo test -p larder-ring` rewrites them; a changed line is a change of the
//! wire contract.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

use larder_ring::{DEFAULT_SLOTS, HashKind, Member, Placement, Ring, diff};

fn check(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("the golden file can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(expected == actual, "{name} changed; placement is a wire contract. Now:\n{actual}");
}

fn weighted(name: &str, weight: u32) -> Member {
    Member { weight, ..Member::new(name) }
}

fn describe(placement: Placement) -> String {
    let three = Ring::new(&placement, ["shop-0", "shop-1", "shop-2"].map(Member::new));
    let four = Ring::new(&placement, (0..4).map(|n| Member::new(format!("shop-{n}"))));
    let uneven = [weighted("shop-0", 50), weighted("shop-1", 100), weighted("shop-2", 250)];
    let uneven = Ring::new(&placement, uneven);
    let mut text = format!("{placement:?}\n");
    for (title, ring) in [("three", &three), ("four", &four), ("uneven", &uneven)] {
        writeln!(text, "\n{title}").unwrap();
        for (member, share) in ring.shares() {
            writeln!(text, "  {} weight {} share {share:.6}", member.name, member.weight).unwrap();
        }
    }
    writeln!(text, "\nthree -> four").unwrap();
    for part in diff(&three, &four).moves {
        writeln!(text, "  {:?} -> {:?} {:.6}", part.from, part.to, part.share).unwrap();
    }
    writeln!(text, "\nkey: three four uneven, then the order of four").unwrap();
    let named = ["", "Tom", "Jack", "Sam", "\u{e4}\u{f6}\u{fc}", "a/b?c=d&e f"].map(String::from);
    for key in named.into_iter().chain((0..40).map(|n| format!("key-{n}"))) {
        let owner = |ring: &Ring| ring.owner("students", key.as_bytes()).unwrap().name.clone();
        let owners = [owner(&three), owner(&four), owner(&uneven)].join(" ");
        let order = four.owners("students", key.as_bytes(), 4);
        let order: Vec<&str> = order.iter().map(|member| member.name.as_str()).collect();
        writeln!(text, "  {key:?}: {owners}, {}", order.join(" ")).unwrap();
    }
    let other = (0..16u8).map(|n| three.owner_index("courses", &[n, 0, 255]).unwrap().to_string());
    writeln!(text, "\nanother group, binary keys: {}", other.collect::<Vec<_>>().join("")).unwrap();
    text
}

#[test]
fn rendezvous_placement_is_unchanged() {
    check("rendezvous.txt", &describe(Placement::Rendezvous { slots: DEFAULT_SLOTS }));
}

#[test]
fn crc32_ring_placement_is_unchanged() {
    let placement = Placement::Ring { virtual_nodes: 50, hash: HashKind::Crc32 };
    check("ring-crc32.txt", &describe(placement));
}

#[test]
fn xxh3_ring_placement_is_unchanged() {
    let placement = Placement::Ring { virtual_nodes: 160, hash: HashKind::Xxh3 };
    check("ring-xxh3.txt", &describe(placement));
}
