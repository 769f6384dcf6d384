//! `larder bench` against a running cluster.

use std::time::{Duration, Instant};

use crate::rig::{Program, Up, code, envelope, err, larder, out};

const KEYS: [&str; 4] = ["--key-pattern", "student-{:04}", "--keys", "4000"];

#[test]
fn a_load_is_measured_by_requests_and_by_what_became_of_the_keys() {
    let up = Up::start(&["--members", "2"]);
    let args = [&["bench", "students", "--requests", "2000"], &KEYS[..]].concat();
    let result = up.result(&args);
    assert_eq!((&result["requests"], &result["keys"]), (&2_000.into(), &2_000.into()));
    assert_eq!(result["failedRequests"], 0);
    let count = |name: &str| -> u64 {
        let results = result["results"].as_array().expect("a list");
        results.iter().filter(|r| r["result"] == name).filter_map(|r| r["keys"].as_u64()).sum()
    };
    assert_eq!(count("hit") + count("loaded"), 2_000, "{result}");
    assert!(count("hit") > 0 && count("loaded") > 0, "{result}");
    assert!(result["latencyMicroseconds"]["p50"].as_u64() > Some(0), "{result}");
    let status = up.result(&["status"]);
    assert_eq!(
        status["groups"][0]["hits"]
            .as_u64()
            .zip(status["groups"][0]["misses"].as_u64())
            .map(|(hits, misses)| hits + misses >= 2_000),
        Some(true),
        "{status}"
    );

    let batches = [&["bench", "students", "--batch", "50", "-n", "20"], &KEYS[..]].concat();
    let result = up.result(&batches);
    assert_eq!((&result["requests"], &result["keys"]), (&20.into(), &1_000.into()));
}

#[test]
fn absent_and_failed_keys_are_counted_apart() {
    let up = Up::start(&["--members", "1"]);
    let result = up.result(&["bench", "students", "-n", "100", "--keys", "10"]);
    assert_eq!(result["results"][0]["result"], "absent", "{result}");
    assert_eq!(result["values"], 0);

    let unknown = up.ask(&["bench", "teachers"]);
    assert_eq!(code(&unknown), 1);
    assert!(
        err(&unknown).contains("no group \"teachers\"; it knows: students"),
        "{}",
        err(&unknown)
    );

    // Every request fails, and the reason is the members' own.
    let large = ["bench", "students", "-n", "10", "--key-bytes", "10000", "-o", "json"];
    let failed = up.ask(&large);
    assert_eq!(code(&failed), 1);
    let failed = envelope(&failed);
    assert_eq!(failed["result"]["results"][0]["reason"], "KEY_TOO_LONG", "{failed}");
}

#[test]
fn a_rate_and_a_time_bound_the_load() {
    let up = Up::start(&["--members", "1"]);
    let args = [&["bench", "students", "--rate", "50", "-d", "1"], &KEYS[..]].concat();
    let result = up.result(&args);
    let requests = result["requests"].as_u64().expect("a number");
    assert!((25..=50).contains(&requests), "50 a second for a second: {result}");
}

#[test]
fn an_interrupted_load_prints_what_it_measured() {
    let up = Up::start(&["--members", "1"]);
    let args = ["bench", "students", "-d", "600", "-e", &up.endpoint()];
    let mut bench = Program::start(&[&args[..], &KEYS].concat());
    // Some requests have been answered when the cluster has counted hits.
    let status = || out(&larder(&["status", "-o", "json", "-e", &up.endpoint()]));
    let hits = |text: &str| text.split("\"hits\": ").skip(1).any(|count| !count.starts_with('0'));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !hits(&status()) {
        assert!(Instant::now() < deadline, "no hits: {}", status());
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(bench.interrupt(), 0);
    bench.until("SHARE");
    let text = bench.seen.join("\n");
    assert!(text.contains(" s, interrupted") && text.contains("p99.9"), "{text}");
}
