//! `larder up` from its start to its end.

use std::net::TcpListener;

use crate::rig::{Program, Up, code, envelope, err, http_get, larder, out, shell};

#[test]
fn the_commands_that_up_prints_work_as_printed() {
    let mut up = Up::start(&[]);
    let hit = shell(&up.printed(" get "));
    assert_eq!((code(&hit), out(&hit).as_str()), (0, "630\n"), "{}", err(&hit));

    let curl = up.printed("curl ");
    let hit = shell(&curl.replace("curl ", "curl -sS "));
    assert_eq!(code(&hit), 0, "{}", err(&hit));
    let body: serde_json::Value = serde_json::from_str(&out(&hit)).expect("JSON");
    assert_eq!((&body["found"], &body["value"]), (&true.into(), &"630".into()));

    let absent = up.ask(&["get", "students", "Nobody"]);
    assert_eq!((code(&absent), out(&absent).as_str()), (4, ""));
    assert_eq!(err(&absent), "absent: the origin has no students/Nobody\n");
    let unknown = up.ask(&["get", "teachers", "Tom"]);
    assert_eq!(code(&unknown), 1);
    assert!(err(&unknown).contains("teachers"), "{}", err(&unknown));
    assert_eq!(out(&up.ask(&["get", "students", "Jack", "-o", "raw"])), "589");

    assert_eq!(up.program.interrupt(), 0);
    assert_eq!(up.program.temporary_files(), Vec::<String>::new());
}

#[test]
fn every_member_answers_over_grpc_and_http() {
    let up = Up::start(&[]);
    let rows: Vec<Vec<&str>> = up
        .program
        .seen
        .iter()
        .filter(|line| line.starts_with("shop-"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{:#?}", up.program.seen);
    for row in rows {
        let hit = larder(&["get", "students", "Tom", "--endpoint", row[1]]);
        assert_eq!(out(&hit), "630\n", "{}", err(&hit));
        let http = row[2].strip_prefix("http://").expect("a URL");
        let hit = http_get(http, "/api?group=students&key=Tom");
        assert!(hit.starts_with("HTTP/1.1 200") && hit.contains("\"630\""), "{hit}");
        let absent = http_get(http, "/api?group=students&key=Nobody");
        assert!(absent.starts_with("HTTP/1.1 404"), "{absent}");
    }
}

#[test]
fn no_signal_leaves_files_behind() {
    for (first, second, expected) in
        [("TERM", None, 0), ("HUP", None, 0), ("INT", Some("INT"), 130), ("HUP", Some("TERM"), 143)]
    {
        let mut up = Up::start(&["--members", "2"]);
        assert_ne!(up.program.temporary_files(), Vec::<String>::new(), "credentials are there");
        up.program.signal(first);
        if let Some(second) = second {
            up.program.until("stopping");
            up.program.signal(second);
        }
        assert_eq!(up.program.ended(), expected, "{first} {second:?}");
        assert_eq!(up.program.temporary_files(), Vec::<String>::new(), "{first} {second:?}");
    }
}

#[test]
fn a_signal_during_the_start_leaves_no_files_behind() {
    // Listens and never answers, so that the first question to the database lasts.
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let url = format!("postgres://u:p@{}/d", silent.local_addr().expect("bound"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("url");
    std::fs::write(&file, url).expect("written");
    let secret = format!("students-db/url=@{}", file.display());
    let mut program = Program::start(&["up", "--port-base", "0", "--secret", &secret]);
    let (connection, _) = silent.accept().expect("asked");
    assert_ne!(program.temporary_files(), Vec::<String>::new(), "credentials are there");
    assert_eq!(program.interrupt(), 0);
    assert_eq!(program.temporary_files(), Vec::<String>::new());
    drop(connection);
}

#[test]
fn for_a_program_up_prints_one_envelope_when_the_members_serve() {
    let data = tempfile::tempdir().expect("a folder");
    let folder = data.path().to_str().expect("text");
    let args = ["up", "--port-base", "0", "--members", "2", "--data", folder, "-o", "json"];
    let mut program = Program::start(&args);
    program.until("}");
    while program.seen.last().is_some_and(|line| line != "}") {
        program.until("}");
    }
    let text = program.seen.join("\n");
    let started: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let members = started["result"]["members"].as_array().expect("a list").clone();
    assert_eq!(members.len(), 2, "{started}");
    let endpoint = members[1]["grpc"].as_str().expect("an address");
    let hit = larder(&["get", "students/Tom", "-o", "json", "--endpoint", endpoint]);
    assert_eq!(envelope(&hit)["result"]["answers"][0]["value"], "630");
    assert_eq!(program.interrupt(), 0);
}

#[test]
fn a_port_in_use_is_named_and_64() {
    let held = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let port = held.local_addr().expect("bound").port().to_string();
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path().to_str().expect("text");
    let output = larder(&["up", "--port-base", &port, "--data", data]);
    assert_eq!(code(&output), 64);
    let expected = format!(
        "larder: port {port} is in use; choose others with --port-base (0 takes free ones)\n"
    );
    assert_eq!(err(&output), expected);
}

#[test]
fn a_database_that_cannot_be_read_is_one_line_and_64() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = folder.path().join("url");
    std::fs::write(&url, "sqlite:///nowhere/students.db\n").expect("written");
    let from_file = |name: &str| format!("{name}=@{}", url.display());
    let up = |args: &[&str]| {
        let output = larder(&[&["up", "--port-base", "0"], args].concat());
        assert_eq!(code(&output), 64, "{}", err(&output));
        let text = err(&output);
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    let data = tempfile::tempdir().expect("a folder");
    let path = data.path().to_str().expect("text");
    let text = up(&["--data", path, "--secret", &from_file("students-db/url")]);
    assert!(text.starts_with("larder: group students: the database of students-db/url "), "{text}");

    std::fs::write(data.path().join("demo-1.sqlite"), "not a database").expect("written");
    let text = up(&["--data", path]);
    assert!(text.contains("demo-1.sqlite cannot be read; remove it"), "{text}");

    let text = up(&["--data", path, "--secret", &from_file("student-db/url")]);
    assert_eq!(text, "larder: --secret student-db/url: no group refers to it\n");
}

#[test]
fn a_secret_in_the_list_of_processes_is_warned_of_without_its_value() {
    let given = ["--secret", "students-db/url=sqlite:///nowhere/secret.db"];
    let output = larder(&[&["up", "--port-base", "0"], &given[..]].concat());
    let warning = err(&output).lines().next().expect("a line").to_owned();
    assert_eq!(
        warning,
        "the value of --secret students-db/url is in the list of processes; pass it as \
         students-db/url=@FILE or students-db/url=env:VARIABLE"
    );
}
