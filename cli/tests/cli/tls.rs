//! Commands against a member that serves only TLS.

use larder_node::app::{App, Options, Running};
use larder_node::config::{Config, TlsSettings};
use larder_node::origin::{self, Loaded};
use larder_tls::testing::{Authority, Leaf, mount};
use tempfile::TempDir;

use super::rig::{code, command, envelope, err, larder, out};

const MEMBER: Leaf<'_> = Leaf {
    names: &["demo.local.svc"],
    uris: &["larder://local/demo/member"],
    expired: false,
    client_only: false,
};
const CLIENT: Leaf<'_> = Leaf {
    names: &[],
    uris: &["larder://local/demo/client/ann"],
    expired: false,
    client_only: true,
};

/// A member, and the folder with a client's bundle.
struct Setup {
    member: Running,
    bundle: TempDir,
    _certificates: TempDir,
}

impl Setup {
    fn start() -> Self {
        let authority = Authority::new("demo");
        let [certificates, bundle] = [&MEMBER, &CLIENT].map(|leaf| {
            let folder = tempfile::tempdir().expect("a folder");
            mount(folder.path(), &authority.pem_of(leaf));
            folder
        });
        let mut config = Config::alone("demo", 8 << 20);
        config.limits.workers = 1;
        config.tls = Some(TlsSettings {
            directory: certificates.path().to_owned(),
            server_name: "demo.local.svc".try_into().expect("a DNS name"),
        });
        let load = |key| async move { Ok(Loaded::Value(key)) };
        let options = Options::default().group("echo", origin::from_fn(load));
        let member = App::build(config, options).expect("free ports").spawn().expect("threads");
        Self { member, bundle, _certificates: certificates }
    }

    fn endpoint(&self) -> String {
        format!("https://{}", self.member.addresses().grpc)
    }

    fn run(&self, args: &[&str]) -> std::process::Output {
        let bundle = self.bundle.path().to_str().expect("UTF-8");
        larder(&[args, &["--endpoint", &self.endpoint(), "--tls-dir", bundle]].concat())
    }
}

#[test]
fn every_verb_that_asks_members_works_over_tls() {
    let setup = Setup::start();
    let output = setup.run(&["get", "echo", "Tom"]);
    assert_eq!((code(&output), out(&output).as_str()), (0, "Tom\n"), "{}", err(&output));
    for args in [
        &["explain", "echo", "Tom"][..],
        &["status"],
        &["ring"],
        &["hot", "echo"],
        &["invalidate", "echo", "Tom"],
        &["bench", "echo", "-n", "50", "--keys", "5", "-o", "json"],
    ] {
        let output = setup.run(args);
        assert_eq!(code(&output), 0, "{args:?}: {}{}", out(&output), err(&output));
    }
    let checked = envelope(&setup.run(&["check", "-o", "json"]));
    let text = checked.to_string();
    assert!(text.contains("members-reachable") && text.contains("1 of 1"), "{text}");
}

#[test]
fn the_folder_comes_from_the_environment_and_the_files_one_by_one() {
    let setup = Setup::start();
    let endpoint = setup.member.addresses().grpc.to_string();
    let get = ["get", "echo", "Tom", "--endpoint", &endpoint];
    let output = command(&get).env("LARDER_TLS_DIR", setup.bundle.path()).output().expect("runs");
    assert_eq!(out(&output), "Tom\n", "{}", err(&output));

    let file = |name: &str| setup.bundle.path().join(name).display().to_string();
    let (ca, certificate, key) = (file("ca.crt"), file("tls.crt"), file("tls.key"));
    let files = ["--tls-ca", &ca, "--tls-cert", &certificate, "--tls-key", &key];
    let output = larder(&[&get[..], &files].concat());
    assert_eq!(out(&output), "Tom\n", "{}", err(&output));

    let output = larder(&[&get[..], &files, &["--tls-server-name", "other.svc"]].concat());
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("not valid for name"), "{}", err(&output));
}

#[test]
fn a_command_in_plain_text_says_that_the_member_expects_tls() {
    let setup = Setup::start();
    let endpoint = setup.member.addresses().grpc.to_string();
    for verb in [&["get", "echo", "Tom"][..], &["check"], &["bench", "echo", "-n", "1"]] {
        let output = larder(&[verb, &["--endpoint", &endpoint]].concat());
        let text = out(&output) + &err(&output);
        assert_eq!(code(&output), 1, "{verb:?}: {text}");
        assert!(text.contains("expects TLS: use https://"), "{verb:?}: {text}");
    }
}
