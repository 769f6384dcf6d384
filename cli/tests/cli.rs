//! The `larder` program as a user meets it: real processes, real ports, golden outputs.
//! `UPDATE_GOLDEN=1 cargo test -p larder-cli` writes the golden files anew.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const LARDER: &str = env!("CARGO_BIN_EXE_larder");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn larder(args: &[&str]) -> Output {
    let mut command = Command::new(LARDER);
    command.args(args).current_dir(root()).env_remove("LARDER_ENDPOINT").env_remove("COLUMNS");
    command.output().expect("the program starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("not killed")
}

/// Compares with `tests/golden/NAME`, or writes it.
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs; UPDATE_GOLDEN=1 writes it anew");
}

/// A running `larder up`, ended with the test.
struct Up {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// The demo's folder.
    _data: tempfile::TempDir,
}

impl Up {
    fn start(args: &[&str]) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let mut child = Command::new(LARDER)
            .args(["up", "--port-base", "0", "--data"])
            .arg(data.path())
            .args(args)
            .current_dir(root())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (send, lines) = channel();
        let stdout = child.stdout.take().expect("piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The test may have ended.
                let _ = send.send(line);
            }
        });
        let mut up = Self { child, lines, seen: Vec::new(), _data: data };
        up.until("Ctrl-C stops.");
        up
    }

    /// Reads lines up to one that holds `text`.
    fn until(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let found = line.contains(text);
                    self.seen.push(line);
                    if found {
                        return;
                    }
                }
                Err(_) => {
                    self.child.kill().expect("ours");
                    let mut errors = String::new();
                    let mut stderr = self.child.stderr.take().expect("piped");
                    stderr.read_to_string(&mut errors).expect("text");
                    panic!("no {text:?} in {:#?}\n{errors}", self.seen);
                }
            }
        }
    }

    /// The printed command that holds `text`.
    fn printed(&self, text: &str) -> String {
        let line = self.seen.iter().find(|l| l.starts_with("  ") && l.contains(text));
        line.unwrap_or_else(|| panic!("no {text:?} in {:#?}", self.seen)).trim().to_owned()
    }

    /// `--endpoint` of the first member, out of the printed command.
    fn endpoint(&self) -> String {
        let printed = self.printed(" get ");
        printed.split("--endpoint ").nth(1).expect("not the default port").to_owned()
    }

    fn ask(&self, args: &[&str]) -> Output {
        let endpoint = self.endpoint();
        larder(&[args, &["--endpoint", &endpoint]].concat())
    }

    /// Sends SIGINT and tells the exit code.
    fn interrupt(mut self) -> i32 {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().expect("kill exists");
        assert!(sent.success());
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self.child.try_wait().expect("ours") {
                Some(status) => return status.code().expect("not killed"),
                None if Instant::now() > deadline => panic!("does not stop"),
                None => std::thread::park_timeout(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shell(command: &str) -> Output {
    Command::new("sh").args(["-c", command]).current_dir(root()).output().expect("a shell")
}

/// A GET without curl, for what is compared to the byte.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("listening");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

#[test]
fn help_of_every_verb_has_examples_and_exit_codes() {
    let mut text = out(&larder(&["--help"]));
    for verb in ["up", "get", "explain", "status", "ring", "curve", "hot", "invalidate", "check"] {
        let help = larder(&[verb, "--help"]);
        assert_eq!(code(&help), 0);
        let help = out(&help);
        assert!(help.contains("Examples:") && help.contains("Exit codes:"), "{verb}: {help}");
        text += &format!("\n==== larder {verb} --help\n{help}");
    }
    golden("help.txt", &text);
}

#[test]
fn as_a_kubectl_plugin_the_help_speaks_of_kubectl() {
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = folder.path().join("kubectl-larder");
    std::os::unix::fs::symlink(LARDER, &plugin).expect("linked");
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
        (&["ring", "g"], "larder: name GROUP and KEY\n"),
        (&["invalidate", "g"], "larder: name the keys, or say --all for the whole group\n"),
        (
            &["up", "-f", "/nowhere.yaml"],
            "larder: /nowhere.yaml cannot be read: No such file or directory (os error 2)\n",
        ),
    ] {
        let output = larder(args);
        assert_eq!((code(&output), err(&output).as_str()), (64, text), "{args:?}");
    }
    assert_eq!(code(&larder(&["get"])), 64);
    assert_eq!(code(&larder(&["fetch", "g", "k"])), 64);
}

#[test]
fn nobody_there_is_1_with_a_hint() {
    let free = TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr().expect("bound");
    let endpoint = free.to_string();
    let output = larder(&["get", "g", "k", "--endpoint", &endpoint, "--retries", "0"]);
    assert_eq!(code(&output), 1);
    let text = err(&output);
    let expected = format!("larder: no member answered in 1 try: {endpoint} cannot be reached: ");
    assert!(text.starts_with(&expected), "{text}");
    assert!(text.contains("hint: `larder check`"), "{text}");

    let output = larder(&["check", "--endpoint", &endpoint]);
    assert_eq!(code(&output), 1);
    golden("check-nobody.txt", &out(&output).replace(&endpoint, "127.0.0.1:PORT"));
}

#[test]
fn what_up_prints_works_as_printed() {
    let up = Up::start(&[]);
    let hit = shell(&up.printed(" get "));
    assert_eq!((code(&hit), out(&hit).as_str()), (0, "630\n"), "{}", err(&hit));

    let curl = up.printed("curl ");
    let hit = shell(&curl.replace("curl ", "curl -sS "));
    assert_eq!(code(&hit), 0, "{}", err(&hit));
    let body: serde_json::Value = serde_json::from_str(&out(&hit)).expect("JSON");
    assert_eq!((&body["found"], &body["value"]), (&true.into(), &"630".into()));

    // The rest of a user's first minutes.
    let absent = up.ask(&["get", "students", "Nobody"]);
    assert_eq!((code(&absent), out(&absent).as_str()), (4, ""));
    assert_eq!(err(&absent), "absent: the origin has no students/Nobody\n");
    let unknown = up.ask(&["get", "teachers", "Tom"]);
    assert_eq!(code(&unknown), 1);
    assert!(err(&unknown).contains("teachers"), "{}", err(&unknown));
    assert_eq!(out(&up.ask(&["get", "students", "Jack", "-o", "raw"])), "589");

    assert_eq!(up.interrupt(), 0);
}

#[test]
fn one_look_into_a_running_cluster() {
    let mut up = Up::start(&["--members", "2"]);
    let json = |args: &[&str]| -> serde_json::Value {
        let output = up.ask(args);
        assert_eq!(code(&output), 0, "{args:?}: {}", err(&output));
        serde_json::from_str(&out(&output)).expect("JSON")
    };
    let first = json(&["get", "students", "Sam", "--explain", "-o", "json"]);
    assert_eq!(first["explanation"]["source"], "LOADED");
    let owner = json(&["ring", "students", "Sam", "-o", "json"])["owner"].clone();
    assert_eq!(first["explanation"]["owner"], owner, "the client's ring is the members' ring");
    let again = json(&["explain", "students", "Sam", "-o", "json"]);
    let seen = again["explanation"]["source"].as_str().expect("text").to_owned();
    let near = if owner == "shop-0" { &["LOCAL"][..] } else { &["HOT", "OWNER"] };
    assert!(near.contains(&seen.as_str()), "{seen} of {owner}, asked at shop-0");

    let status = json(&["status", "-o", "json"]);
    assert_eq!(status["members"].as_array().map(Vec::len), Some(2));
    assert_eq!(status["groups"][0]["name"], "students");
    assert_eq!(status["groups"][0]["loads"], 1);
    let text = out(&up.ask(&["status"]));
    assert!(text.starts_with("2/2 members answer, ring revision "), "{text}");

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
    assert!(out(&up.ask(&["hot"])).starts_with("no key was seen often enough"));

    let dropped = up.ask(&["invalidate", "students", "Sam"]);
    assert_eq!(out(&dropped), "1 key of students dropped; 2 of 2 members confirmed\n");
    let loaded = json(&["explain", "students", "Sam", "-o", "json"]);
    assert_eq!(loaded["explanation"]["source"], "LOADED");

    let check = up.ask(&["check"]);
    assert_eq!(code(&check), 0, "{}", out(&check));
    let names: Vec<String> = out(&check)
        .lines()
        .filter_map(|line| Some(line.strip_prefix("ok ")?.split_whitespace().next()?.to_owned()))
        .collect();
    assert_eq!(names.len(), 10, "{}", out(&check));

    // Not on a terminal: a plain line, when something changed.
    up.until("origin loads 2");
    let line = up.seen.last().expect("seen").clone();
    assert!(line.starts_with("requests ") && !line.contains('\x1b'), "{line}");
    assert_eq!(up.interrupt(), 0);
}

#[test]
fn every_member_answers_over_both_doors() {
    let up = Up::start(&[]);
    let rows: Vec<Vec<&str>> = up
        .seen
        .iter()
        .filter(|line| line.starts_with("shop-"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 3, "{:#?}", up.seen);
    for row in rows {
        let hit = larder(&["get", "students", "Tom", "--endpoint", row[1]]);
        assert_eq!(out(&hit), "630\n", "{}", err(&hit));
        let http = row[2].strip_prefix("http://").expect("a URL");
        let hit = get(http, "/api?group=students&key=Tom");
        assert!(hit.starts_with("HTTP/1.1 200") && hit.contains("\"630\""), "{hit}");
        let absent = get(http, "/api?group=students&key=Nobody");
        assert!(absent.starts_with("HTTP/1.1 404"), "{absent}");
    }
}

#[test]
fn a_bad_field_is_named_with_its_line_and_64() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bad.yaml");
    let sample =
        std::fs::read_to_string(root().join("manifests/examples/shop.yaml")).expect("there");
    std::fs::write(&file, sample.replace("ttlSeconds", "ttlSecond")).expect("written");
    let path = file.to_str().expect("text");
    let shown = |text: &str| text.replace(path, "bad.yaml");

    let output = larder(&["up", "-f", path]);
    assert_eq!(code(&output), 64, "{}", err(&output));
    assert_eq!(err(&output).lines().count(), 1, "{}", err(&output));
    golden("up-bad-field.txt", &shown(&err(&output)));
    let output = larder(&["check", "-f", path]);
    assert_eq!(code(&output), 64);
    golden("check-bad-field.txt", &shown(&out(&output)));

    let output = larder(&["check", "-f", "manifests/examples/shop.yaml"]);
    assert_eq!(code(&output), 0);
    golden("check-sample.txt", &out(&output));
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
    let up = |args: &[&str]| {
        let output = larder(&[&["up", "--port-base", "0"], args].concat());
        assert_eq!(code(&output), 64, "{}", err(&output));
        let text = err(&output);
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    };
    let data = tempfile::tempdir().expect("a folder");
    let path = data.path().to_str().expect("text");
    let text = up(&["--data", path, "--secret", "students-db/url=sqlite:///nowhere/students.db"]);
    assert!(text.starts_with("larder: group students: the database of students-db/url "), "{text}");

    std::fs::write(data.path().join("demo-1.sqlite"), "this is no database").expect("written");
    let text = up(&["--data", path]);
    assert!(text.contains("demo-1.sqlite cannot be read; remove it"), "{text}");

    let text = up(&["--data", path, "--secret", "student-db/url=sqlite:///x"]);
    assert_eq!(text, "larder: --secret student-db/url: no group refers to it\n");
}
