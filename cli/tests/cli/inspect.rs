//! The verbs that ask a running cluster.

use std::io::Write;
use std::net::TcpListener;

use serde_json::Value;

use crate::rig::{Program, Up, code, envelope, err, fed, larder, out, sample};

#[test]
fn verbs_show_a_running_cluster() {
    let mut up = Up::start(&["--members", "2"]);
    let first = up.result(&["get", "students", "Sam", "--explain"]);
    assert_eq!(first["answers"][0]["explanation"]["source"], "LOADED");
    let owner = up.result(&["ring", "students", "Sam"])["owner"].clone();
    assert_eq!(first["answers"][0]["explanation"]["owner"], owner, "client and members agree");
    let again = up.result(&["explain", "students/Sam"]);
    let seen = again["explanation"]["source"].as_str().expect("text").to_owned();
    let near = if owner == "shop-0" { &["LOCAL"][..] } else { &["HOT", "OWNER"] };
    assert!(near.contains(&seen.as_str()), "{seen} of {owner}, asked at shop-0");

    let status = up.result(&["status"]);
    assert_eq!(status["members"].as_array().map(Vec::len), Some(2));
    assert_eq!(status["groups"][0]["name"], "students");
    assert_eq!(status["groups"][0]["loads"], 1);
    let text = out(&up.ask(&["status"]));
    assert!(text.starts_with("2 of 2 members answer, ring revision "), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    // Too few reads for a curve, and none is hot.
    let curve = up.ask(&["curve", "students"]);
    let young = "larder: students: not enough requests yet: ";
    assert_eq!(code(&curve), 1);
    assert!(err(&curve).starts_with(young), "{}", err(&curve));
    for verb in ["curve", "hot"] {
        let unknown = up.ask(&[verb, "teachers"]);
        assert_eq!(code(&unknown), 1);
        assert!(err(&unknown).contains("\"teachers\""), "{}", err(&unknown));
    }
    assert!(out(&up.ask(&["hot"])).starts_with("no hot key yet"));

    let dropped = up.ask(&["invalidate", "students", "Sam"]);
    assert_eq!(out(&dropped), "1 key of students dropped; 2 of 2 members confirmed\n");
    let loaded = up.result(&["explain", "students", "Sam"]);
    assert_eq!(loaded["explanation"]["source"], "LOADED");
    assert_eq!(up.result(&["invalidate", "students", "--all"])["wholeGroup"], true);

    let check = up.ask(&["check"]);
    assert_eq!(code(&check), 0, "{}", out(&check));
    let names: Vec<String> = out(&check)
        .lines()
        .filter_map(|line| Some(line.strip_prefix("ok ")?.split_whitespace().next()?.to_owned()))
        .collect();
    assert_eq!(names.len(), 10, "{}", out(&check));

    // Not on a terminal: a plain line, when something changed.
    up.program.until("origin loads 2");
    let line = up.program.seen.last().expect("seen").clone();
    assert!(line.starts_with("requests ") && !line.contains('\x1b'), "{line}");
    assert_eq!(up.program.interrupt(), 0);
}

#[test]
fn several_keys_are_a_table_and_the_worst_one_is_the_exit_code() {
    let up = Up::start(&["--members", "2"]);
    let both = up.ask(&["get", "students", "Tom", "Jack"]);
    assert_eq!(code(&both), 0, "{}", err(&both));
    assert_eq!(out(&both), "KEY   VALUE  RESULT\nTom   630    found\nJack  589    found\n");
    let one_absent = up.ask(&["get", "students", "Tom", "Nobody"]);
    assert_eq!(code(&one_absent), 4);
    assert!(out(&one_absent).ends_with("Nobody  -      absent\n"), "{}", out(&one_absent));
    // A key above every limit fails alone or with the whole request, as the member decides.
    let long = "x".repeat(100_000);
    assert_eq!(code(&up.ask(&["get", "students", "Tom", &long])), 1);

    let explained = up.result(&["get", "students", "Tom", "Jack", "--explain"]);
    for answer in explained["answers"].as_array().expect("a list") {
        assert!(answer["explanation"]["owner"].is_string(), "{answer}");
    }
    let table = out(&up.ask(&["get", "students/Tom", "-o", "table"]));
    assert!(table.starts_with("KEY  VALUE  RESULT\nTom  630"), "{table}");
}

#[test]
fn keys_that_are_not_text_are_asked_by_base64_and_by_file() {
    let up = Up::start(&["--members", "1"]);
    // "Tom", so that the demo has it.
    let by_base64 = up.ask(&["get", "students", "--key-base64", "VG9t"]);
    assert_eq!(out(&by_base64), "630\n", "{}", err(&by_base64));
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(b"Jack").expect("written");
    let path = file.path().to_str().expect("text");
    let by_file = up.ask(&["explain", "students", "--key-file", path]);
    assert!(
        out(&by_file).starts_with("students/Jack: found, fresh, 3 bytes\n"),
        "{}",
        out(&by_file)
    );
    let endpoint = up.endpoint();
    let by_input = fed(&["get", "students", "--key-file", "-", "-e", &endpoint], "Sam");
    assert_eq!(out(&by_input), "567\n", "{}", err(&by_input));

    let owner = up.result(&["ring", "students", "--key-base64", "/w=="]);
    assert_eq!(owner["asked"]["key"], "/w==");
    assert_eq!(owner["asked"]["keyEncoding"], "base64");
    let dropped = up.ask(&["invalidate", "students", "--key-base64", "/w=="]);
    assert_eq!(code(&dropped), 0, "{}", err(&dropped));
    // A text column cannot hold the key; that is an answer about the key, not a crash.
    let failed = up.ask(&["get", "students", "--key-base64", "/w==", "--retries", "0"]);
    assert!([1, 4].contains(&code(&failed)), "{}", err(&failed));
}

#[test]
fn status_is_shown_again_and_again_until_a_signal() {
    let up = Up::start(&["--members", "1"]);
    let args = ["status", "--watch", "--interval", "0.2", "-e", &up.endpoint()];
    let mut watch = Program::start(&args);
    watch.until("1 of 1 members answer");
    larder(&["get", "students", "Tom", "-e", &up.endpoint()]);
    watch.until("reads/s");
    assert!(!watch.seen.concat().contains('\x1b'), "no terminal: {:#?}", watch.seen);
    assert_eq!(watch.interrupt(), 0);
}

#[test]
fn yaml_holds_the_same_envelope_as_json() {
    let up = Up::start(&["--members", "1"]);
    let json: Value = envelope(&up.ask(&["get", "students/Tom", "-o", "json"]));
    assert_eq!(json["result"]["answers"][0]["value"], "630");
    let yaml = out(&up.ask(&["get", "students/Tom", "-o", "yaml"]));
    for line in ["---", "verb: get", "exitCode: 0", "result:"] {
        assert!(yaml.lines().any(|l| l == line), "{line}: {yaml}");
    }
    assert!(yaml.contains("key: Tom") && yaml.contains("630"), "{yaml}");
}

#[test]
fn a_failing_origin_is_named_and_the_network_is_not_blamed() {
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound");
    let origin = format!("    http:\n      urlTemplate: http://{free}/{{key}}\n  policy");
    let text = sample();
    let (before, after) = text.split_once("    sql:").expect("a SQL origin");
    let (_, after) = after.split_once("  policy").expect("a policy");
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = folder.path().join("shop.yaml");
    std::fs::write(&yaml, format!("{before}{origin}{after}")).expect("written");
    let up = Up::start(&["-f", yaml.to_str().expect("text"), "--members", "2"]);

    let failed = up.ask(&["get", "students/Tom", "-o", "json"]);
    assert_eq!(code(&failed), 1);
    let error = envelope(&failed)["error"].clone();
    assert_eq!(error["kind"], "origin", "{error}");
    assert_eq!(error["reason"], "ORIGIN_UNREACHABLE", "{error}");
    let text = err(&failed);
    assert!(
        text.contains("the origin of group \"students\"") && !text.contains("no member"),
        "{text}"
    );
    let several = up.ask(&["get", "students", "Tom", "Ann"]);
    assert_eq!(code(&several), 1);
    assert!(err(&several).contains("the origin of group \"students\""), "{}", err(&several));
}

#[test]
fn a_port_that_is_not_grpc_is_named_with_the_right_one() {
    let up = Up::start(&["--members", "1"]);
    let row = up.program.seen.iter().find(|line| line.starts_with("shop-0")).expect("a row");
    let http = row.split_whitespace().nth(2).expect("a URL").to_owned();
    let failed = larder(&["get", "students/Tom", "-e", &http]);
    assert_eq!(code(&failed), 1);
    let text = err(&failed);
    assert!(text.contains("does not speak gRPC") && text.contains("7600"), "{text}");
    assert!(!text.contains("grpc-status"), "{text}");
}
