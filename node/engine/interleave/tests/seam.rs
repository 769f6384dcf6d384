//! Code that bypasses the engine's `sync.rs` is not covered by the schedules, so none may exist.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the engine's sources");
    let paths = entries.map(|entry| entry.expect("a readable entry").path());
    paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

#[test]
fn all_locks_and_atomics_are_imported_through_one_module() {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"));
    assert!(files.len() > 20, "only {} files found, not the engine's sources", files.len());
    for file in files.iter().filter(|file| !file.ends_with("sync.rs")) {
        let text = fs::read_to_string(file).expect("a source is text");
        for bypass in ["parking_lot", "std::sync::atomic", "std::thread::spawn"] {
            assert!(!text.contains(bypass), "{} uses {bypass}", file.display());
        }
    }
}
