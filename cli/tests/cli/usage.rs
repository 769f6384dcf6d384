//! Help, usage errors, files and endpoints that are wrong, envelopes of failures.

use std::net::TcpListener;
use std::process::Command;

use crate::rig::{code, command, envelope, err, fed, golden, larder, out, sample};

const VERBS: [&str; 13] = [
    "up",
    "get",
    "explain",
    "status",
    "ring",
    "curve",
    "hot",
    "invalidate",
    "check",
    "bench",
    "warm",
    "completions",
    "man",
];

/// Where nothing listens.
fn nowhere() -> String {
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback");
    free.local_addr().expect("bound").to_string()
}

#[test]
fn help_of_every_verb_has_examples_and_exit_codes() {
    let mut text = out(&larder(&["--help"]));
    assert!(text.contains("exitCode"), "the envelope is described: {text}");
    for verb in VERBS {
        let help = larder(&[verb, "--help"]);
        assert_eq!(code(&help), 0);
        let help = out(&help);
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{verb}: {help}");
        text += &format!("\n==== larder {verb} --help\n{help}");
    }
    golden("help.txt", &text);
}

#[test]
fn only_verbs_that_ask_a_member_offer_an_endpoint() {
    for verb in VERBS {
        let asks = !["up", "completions", "man"].contains(&verb);
        let help = out(&larder(&[verb, "--help"]));
        assert_eq!(help.contains("--endpoint"), asks, "{verb}: {help}");
    }
}

#[test]
fn help_of_the_kubectl_plugin_names_kubectl() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = folder.path().join("kubectl-larder");
    std::os::unix::fs::symlink(command(&[]).get_program(), &plugin).expect("linked");
    let help = Command::new(&plugin).args(["get", "--help"]).output().expect("starts");
    let help = out(&help);
    assert!(help.contains("Usage: kubectl larder get"), "{help}");
    assert!(help.contains("\n  kubectl larder get students Tom\n"), "{help}");
}

#[test]
fn wrong_usage_is_one_line_and_64() {
    for (args, text) in [
        (
            &["get", "g", "k", "--endpoint", "shop:"][..],
            "larder: \"shop:\" is not an endpoint: the port \"\" is not a number from 1 to 65535\n",
        ),
        (
            &["check", "--endpoint", "https://shop"],
            "larder: https://shop:7600: https needs certificates: give --tls-dir\n",
        ),
        (&["ring", "g"], "larder: name one key: GROUP KEY or GROUP/KEY\n"),
        (
            &["explain", "g/a", "b"],
            "larder: GROUP/KEY names one key; write GROUP KEY... for several\n",
        ),
        (&["ring", "--key-base64", "VG9t"], "larder: a key needs its GROUP\n"),
        (&["get", "g"], "larder: name the keys: GROUP KEY... or GROUP/KEY\n"),
        (&["get", "g", "a", "b", "-o", "raw"], "larder: -o raw prints one value: name one key\n"),
        (
            &["invalidate", "g"],
            "larder: name the keys or a --tag, or say --all for the whole group\n",
        ),
        (
            &["invalidate", "g/a", "--all"],
            "larder: name the keys or a --tag, or say --all for the whole group\n",
        ),
        (
            &["up", "-f", "/nowhere.yaml"],
            "larder: /nowhere.yaml cannot be read: No such file or directory (os error 2)\n",
        ),
        (
            &["bench", "g", "--key-bytes", "4"],
            "larder: --key-bytes 4: keys up to number 1000 take 8\n",
        ),
    ] {
        let output = larder(args);
        assert_eq!((code(&output), err(&output).as_str()), (64, text), "{args:?}");
    }
    for args in [
        &["get"][..],
        &["fetch", "g", "k"],
        &["get", "g", "--key-base64", "?"],
        &["up", "--members", "17"],
        &["up", "--members", "0"],
        &["up", "--endpoint", "127.0.0.1"],
        &["up", "--secret", "students-db/url=@/nowhere"],
        &["bench", "g", "--key-pattern", "k"],
        &["status", "--interval", "1"],
    ] {
        assert_eq!(code(&larder(args)), 64, "{args:?}");
    }
}

#[test]
fn an_address_may_have_a_scheme_and_lack_a_port() {
    let endpoint = nowhere();
    let output = larder(&["check", "--endpoint", &format!("http://{endpoint}/")]);
    assert!(out(&output).contains(&format!("{endpoint}: Connection refused")), "{}", out(&output));
    // A loopback address on which nothing else listens.
    let output = larder(&["check", "--endpoint", "127.9.9.9"]);
    assert!(out(&output).contains("127.9.9.9:7600"), "{}", out(&output));
}

#[test]
fn an_endpoint_without_a_listener_is_1_with_a_hint() {
    let endpoint = nowhere();
    let output = larder(&["get", "g", "k", "--endpoint", &endpoint, "--retries", "0"]);
    assert_eq!(code(&output), 1);
    let text = err(&output);
    assert!(text.starts_with("larder: no member "), "{text}");
    assert!(text.contains(&format!("{endpoint} cannot be reached: ")), "{text}");
    assert!(text.contains("hint: `larder check`"), "{text}");

    let output = larder(&["check", "--endpoint", &endpoint]);
    assert_eq!(code(&output), 1);
    golden("check-nobody.txt", &out(&output).replace(&endpoint, "127.0.0.1:PORT"));
}

#[test]
fn a_failure_for_a_program_is_an_envelope_with_the_same_exit_code() {
    let endpoint = nowhere();
    let output =
        larder(&["get", "g", "k", "-o", "json", "--endpoint", &endpoint, "--retries", "0"]);
    assert_eq!(code(&output), 1);
    let failed = envelope(&output);
    assert_eq!((&failed["verb"], &failed["exitCode"]), (&"get".into(), &1.into()));
    assert_eq!(failed["error"]["kind"], "unavailable");
    assert!(failed["error"]["hint"].is_string() && failed["result"].is_null(), "{failed}");

    // Before a verb runs, and before its arguments are even parsed.
    for (args, verb, kind) in [
        (&["ring", "g", "-o", "json"][..], "ring", "bad_configuration"),
        (&["hot", "--limit", "x", "--output=json"], "hot", "usage"),
        (&["fetch", "-o", "json"], "", "usage"),
    ] {
        let output = larder(args);
        assert_eq!(code(&output), 64, "{args:?}");
        let failed = envelope(&output);
        assert_eq!(failed["verb"], verb, "{args:?}");
        assert_eq!((&failed["exitCode"], &failed["error"]["kind"]), (&64.into(), &kind.into()));
    }
    let output = larder(&["ring", "g", "-o", "yaml"]);
    assert!(
        out(&output).starts_with("---\nverb: ring\nexitCode: 64\nerror:\n"),
        "{}",
        out(&output)
    );
}

#[test]
fn a_bad_field_is_named_with_its_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bad.yaml");
    std::fs::write(&file, sample().replace("ttlSeconds", "ttlSecond")).expect("written");
    let path = file.to_str().expect("text");
    let shown = |text: &str| text.replace(path, "bad.yaml");

    let output = larder(&["up", "-f", path]);
    assert_eq!(code(&output), 64, "{}", err(&output));
    assert_eq!(err(&output).lines().count(), 1, "{}", err(&output));
    golden("up-bad-field.txt", &shown(&err(&output)));
    let output = larder(&["check", "-f", path]);
    assert_eq!(code(&output), 1, "a check that failed");
    golden("check-bad-field.txt", &shown(&out(&output)));

    let output = larder(&["check", "-f", "manifests/examples/shop.yaml"]);
    assert_eq!(code(&output), 0);
    golden("check-sample.txt", &out(&output));
}

#[test]
fn an_unusable_batch_is_named_with_its_line() {
    let query = "query: SELECT score FROM students WHERE name = $1";
    let check = |batch: &str| {
        let with_batch = format!("{query}\n      batch: {{{batch}}}");
        let output = fed(&["check", "-f", "-"], &sample().replace(query, &with_batch));
        (code(&output), out(&output))
    };
    let good = "query: 'SELECT score, name FROM students WHERE name IN ($1)'";
    assert_eq!(check(&format!("{good}, keyColumn: name")).0, 0);
    for (batch, text) in [
        ("query: SELECT 1, keyColumn: name", "batch.query must have one placeholder for the keys"),
        (good, "spec.origin.sql.batch: keyColumn is required"),
        (&format!("{good}, keyColumn: name, maxKeys: 0"), "maxKeys: must be at least 1, is 0"),
    ] {
        let (code, out) = check(batch);
        assert!(code == 1 && out.contains("standard input:3") && out.contains(text), "{out}");
    }
}

#[test]
fn check_and_up_read_standard_input() {
    let output = fed(&["check", "-f", "-"], &sample());
    assert_eq!((code(&output), out(&output).lines().count()), (0, 3), "{}", out(&output));
    for verb in ["check", "up"] {
        let output = fed(&[verb, "-f", "-"], &sample().replace("ttlSeconds", "ttlSecond"));
        let text = out(&output) + &err(&output);
        assert!(text.contains("standard input:37: CacheGroup"), "{verb}: {text}");
    }
}

#[test]
fn a_file_without_resources_fails_for_check_and_up() {
    for text in ["", "# nothing yet\n", "---\n"] {
        let output = fed(&["check", "-f", "-"], text);
        assert_eq!(code(&output), 1, "{}", out(&output));
        assert!(out(&output).contains("standard input holds no resource"), "{}", out(&output));
        let output = fed(&["up", "-f", "-"], text);
        assert_eq!(code(&output), 64);
        assert_eq!(err(&output), "larder: standard input: holds no CacheCluster\n");
    }
}

#[test]
fn a_group_of_a_cluster_that_the_file_lacks_fails_for_check_and_up() {
    let text = sample().replace("    name: shop\n", "    name: shopp\n");
    let line =
        "spec.clusterRef.name: no CacheCluster \"shopp\" in this file, did you mean \"shop\"?";
    let output = fed(&["check", "-f", "-"], &text);
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains(line), "{}", out(&output));
    let output = fed(&["up", "-f", "-"], &text);
    assert_eq!(code(&output), 64);
    assert!(err(&output).contains(line), "{}", err(&output));
}

#[test]
fn completions_name_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let output = larder(&["completions", shell]);
        assert_eq!(code(&output), 0);
        for verb in VERBS {
            assert!(out(&output).contains(verb), "{shell}: {verb}");
        }
    }
    assert_eq!(code(&larder(&["completions", "csh"])), 64);
}

#[test]
fn manual_pages_are_written_for_every_verb() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().join("man1");
    let output = larder(&["man", "--output", folder.to_str().expect("text")]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    for verb in VERBS {
        let page = std::fs::read_to_string(folder.join(format!("larder-{verb}.1")));
        assert!(page.expect("written").contains(".SH SYNOPSIS"), "{verb}");
    }
    let page = std::fs::read_to_string(folder.join("larder.1")).expect("written");
    assert!(page.contains("exitCode"), "the envelope is described");
    let files = std::fs::read_dir(&folder).expect("made").count();
    assert_eq!(files, VERBS.len() + 1);
    assert!(out(&output).starts_with(&format!("{files} pages in ")), "{}", out(&output));
}
