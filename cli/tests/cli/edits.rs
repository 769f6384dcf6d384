//! Edits of the file that `larder up` watches.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::rig::{Up, code, err, larder, out, sample};

/// The sample in a file of its own, and a cluster that runs it.
struct Edited {
    up: Up,
    folder: TempDir,
}

impl Edited {
    fn start(args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("shop.yaml"), sample()).expect("written");
        let path = folder.path().join("shop.yaml");
        let up = Up::start(&[&["-f", path.to_str().expect("text")], args].concat());
        Self { up, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("shop.yaml")
    }

    /// Replaces the file by a rename, as many editors do.
    fn save(&self, text: &str) {
        let other = self.folder.path().join("shop.yaml.new");
        std::fs::write(&other, text).expect("written");
        std::fs::rename(other, self.path()).expect("renamed");
    }

    fn seen(&self) -> String {
        self.up.program.seen.join("\n")
    }
}

#[test]
fn an_edit_is_applied_with_its_diff_and_a_wrong_one_changes_nothing() {
    let mut edited = Edited::start(&["--members", "2"]);
    edited.save(&sample().replace("policy: TinyLfu", "policy: Lru"));
    edited.up.program.until("applied: group students changed");
    assert!(edited.seen().contains("-  policy: TinyLfu\n+  policy: Lru\n"), "{}", edited.seen());
    let policy = || edited.up.result(&["status"])["groups"][0]["policy"].clone();
    assert_eq!(policy(), "Lru");

    edited.save(&sample().replace("policy: TinyLfu", "policy: Best"));
    edited.up.program.until("refused: ");
    let refused = edited.up.program.seen.last().expect("seen").clone();
    assert!(refused.contains("shop.yaml:") && refused.contains("policy"), "{refused}");
    let policy = || edited.up.result(&["status"])["groups"][0]["policy"].clone();
    assert_eq!(policy(), "Lru", "what was applied last");

    let group = sample().split("---\n").nth(1).expect("a group").to_owned();
    let second = group.replace("name: students\n", "name: pupils\n");
    edited.save(&format!("{}---\n{second}", sample()));
    edited.up.program.until("applied: group students changed; group pupils added");
    assert_eq!(out(&edited.up.ask(&["get", "pupils", "Tom"])), "630\n");
    edited.save(&sample());
    edited.up.program.until("applied: group pupils removed");
    assert_eq!(code(&edited.up.ask(&["get", "students", "Tom"])), 0);

    edited.save(&format!("# a comment\n{}", sample()));
    edited.up.program.until("nothing to apply");
    std::fs::remove_file(edited.path()).expect("there");
    edited.up.program.until("cannot be read");
    assert_eq!(code(&edited.up.ask(&["get", "students", "Tom"])), 0);
    assert_eq!(edited.up.program.interrupt(), 0);
    assert_eq!(edited.up.program.temporary_files(), Vec::<String>::new());
}

#[test]
fn members_and_memory_are_edited_while_the_cluster_runs() {
    let mut edited = Edited::start(&[]);
    let endpoint = edited.up.endpoint();
    edited.save(&sample().replacen("members: 3", "members: 4", 1));
    edited.up.program.until("applied: 4 members in place of 3");
    let members = edited.up.result(&["ring"])["members"].as_array().map(Vec::len);
    assert_eq!(members, Some(4));

    let capacity = || {
        let status = edited.up.result(&["status"]);
        status["members"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|m| m["capacityBytes"].clone())
            .collect::<Vec<_>>()
    };
    let before = capacity();
    edited.save(&sample().replacen("members: 3", "members: 2", 1).replace("512Mi", "1Gi"));
    edited.up.program.until("applied: 2 members restarted, one after another");
    assert_eq!(edited.up.endpoint(), endpoint);
    let hit = larder(&["get", "students", "Tom", "-e", &endpoint]);
    assert_eq!(out(&hit), "630\n", "the first member listens where it did: {}", err(&hit));
    let status = edited.up.result(&["status"]);
    let after = status["members"].as_array().expect("a list");
    assert_eq!(after.len(), 2, "{status}");
    assert!(after[0]["capacityBytes"].as_u64() > before[0].as_u64(), "{before:?} {status}");

    edited.save(&sample().replace("name: shop\n", "name: store\n"));
    edited.up.program.until("refused: the name of the CacheCluster cannot change");
    assert_eq!(edited.up.program.interrupt(), 0);
}

#[test]
fn without_watching_an_edit_changes_nothing() {
    let mut edited = Edited::start(&["--members", "1", "--watch=false"]);
    edited.save(&sample().replace("policy: TinyLfu", "policy: Lru"));
    // Longer than a watch needs to apply it.
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert_eq!(edited.up.result(&["status"])["groups"][0]["policy"], "TinyLfu");
    assert!(!edited.seen().contains("is applied at once"), "{}", edited.seen());
    assert_eq!(edited.up.program.interrupt(), 0);
}
