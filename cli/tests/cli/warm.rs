//! `larder warm` against a running cluster.

use std::fmt::Write as _;

use serde_json::Value;

use crate::rig::{Program, Up, code, err, fed, larder, out, sample};

fn list(keys: std::ops::RangeInclusive<usize>) -> String {
    keys.fold(String::new(), |mut list, number| {
        writeln!(list, "student-{number:04}").expect("a string");
        list
    })
}

fn keys(result: &Value, fate: &str) -> u64 {
    let results = result["results"].as_array().expect("a list");
    results.iter().filter(|r| r["result"] == fate).filter_map(|r| r["keys"].as_u64()).sum()
}

#[test]
fn keys_of_a_list_are_loaded_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys");
    std::fs::write(&path, list(1..=200) + "Nobody\n").expect("written");
    let path = path.to_str().expect("text");
    let up = Up::start(&["--members", "2"]);
    let warm = ["warm", "students", "Tom", "--from", path];
    let first = up.result(&warm);
    assert_eq!((keys(&first, "loaded"), keys(&first, "absent")), (201, 1), "{first}");
    let again = up.result(&warm);
    assert_eq!((keys(&again, "cached"), keys(&again, "loaded")), (201, 0), "{again}");
    let read = up.result(&["explain", "students", "student-0042"]);
    assert_ne!(read["explanation"]["source"], "LOADED", "{read}");

    let endpoint = up.endpoint();
    let args = ["warm", "students", "--from", "-", "--from-base64", "--endpoint", &endpoint];
    let piped = fed(&args, "SmFjaw==\n");
    assert_eq!(code(&piped), 0, "{}", err(&piped));
    assert!(out(&piped).contains("students: 1 of 1 keys read"), "{}", out(&piped));
    assert!(out(&piped).contains("loaded     1  -\n"), "{}", out(&piped));

    let long = "k".repeat(10_000);
    let failed = up.ask(&["warm", "students", "Tom", &long]);
    assert_eq!(code(&failed), 1);
    assert!(out(&failed).contains("failed     1  KEY_TOO_LONG\n"), "{}", out(&failed));
    let unknown = up.ask(&["warm", "teachers", "--from", path]);
    assert!(code(&unknown) == 1 && err(&unknown).contains("teachers"), "{}", err(&unknown));
    let missing = up.ask(&["warm", "students", "--from", "/nowhere/keys"]);
    assert_eq!((code(&missing), &*out(&missing)), (64, ""));
    assert!(err(&missing).contains("/nowhere/keys cannot be read: "), "{}", err(&missing));
}

#[test]
fn without_a_list_the_keys_that_are_asked_for_most_are_loaded() {
    let up = Up::start(&["--members", "2"]);
    let load = ["--key-pattern", "student-{:04}", "--keys", "20", "-n", "5000"];
    up.result(&[&["bench", "students"][..], &load].concat());
    up.result(&["invalidate", "students", "--all"]);
    let endpoint = up.endpoint();
    let result = up.result(&["warm", "students", "--hot-of", &endpoint]);
    assert!(keys(&result, "loaded") > 0 && keys(&result, "absent") == 0, "{result}");
    assert_eq!(result["keys"], keys(&result, "loaded"), "{result}");
    let again = up.result(&["warm", "students"]);
    assert!(keys(&again, "cached") > 0 && keys(&again, "loaded") == 0, "{again}");
}

#[test]
fn a_refused_load_is_repeated_after_the_time_that_the_member_asks_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let resources = folder.path().join("shop.yaml");
    let limits = "  originLimits:\n";
    assert!(sample().contains(limits));
    let limited = format!("{limits}    loadsPerSecond: 20\n    burst: 2\n");
    std::fs::write(&resources, sample().replace(limits, &limited)).expect("written");
    let up = Up::start(&["-f", resources.to_str().expect("text"), "--members", "1"]);
    let few = folder.path().join("few");
    std::fs::write(&few, list(1..=12)).expect("written");
    let result = up.result(&["warm", "students", "--from", few.to_str().expect("text")]);
    assert_eq!(keys(&result, "loaded"), 12, "{result}");
    assert!(result["refusedReads"].as_u64() > Some(0), "{result}");

    let many = folder.path().join("many");
    std::fs::write(&many, list(1..=4000)).expect("written");
    let many = many.to_str().expect("text");
    let cut = up.ask(&["warm", "students", "--from", many, "--duration", "0.2"]);
    assert_eq!(code(&cut), 1);
    assert!(out(&cut).contains(", interrupted; "), "{}", out(&cut));

    let endpoint = up.endpoint();
    let args = ["warm", "students", "--from", many, "--endpoint", &endpoint];
    let mut program = Program::start(&args);
    let loads = || up.result(&["status"])["groups"][0]["loads"].as_u64();
    let before = loads();
    assert!((0..500).any(|_| loads() != before), "it loads");
    assert_eq!(program.interrupt(), 1);
    program.until("of 4,000 keys read in ");
    let last = program.seen.last().expect("that line");
    assert!(last.contains(", interrupted; "), "{last}");
}

#[test]
fn a_cluster_that_does_not_answer_ends_the_run() {
    let args = ["warm", "students", "Tom", "Ann", "--endpoint", "127.0.0.1:1", "--retries", "0"];
    let failed = larder(&args);
    assert_eq!((code(&failed), &*out(&failed)), (1, ""));
    assert!(err(&failed).contains("127.0.0.1:1 cannot be reached"), "{}", err(&failed));
}
