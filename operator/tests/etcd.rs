//! The plan's assumptions and the adapter's calls against a real etcd 3.6, without Kubernetes: a
//! seed, a learner, promotion, sealing, removal, and the registry's keys.
//!
//! `cargo xtask test` sets `LARDER_ETCD` to the program. Without it the tests do nothing and say
//! so.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use larder_operator::etcd::adapter::Grpc;
use larder_operator::etcd::{Access, Change, Endpoint, Error, EtcdAdmin, MemberStatus};

/// One etcd process on loopback; killed when dropped.
struct Member {
    name: String,
    client: u16,
    peer: u16,
    process: Option<Child>,
}

impl Member {
    fn new(name: &str) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").expect("loopback").local_addr();
        let (client, peer) = (free().expect("bound").port(), free().expect("bound").port());
        Self { name: name.into(), client, peer, process: None }
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint { url: format!("http://127.0.0.1:{}", self.client) }
    }

    fn start(&mut self, program: &str, folder: &Path, state: &str, cluster: &[(&str, String)]) {
        let list: Vec<_> = cluster.iter().map(|(name, url)| format!("{name}={url}")).collect();
        let client = self.endpoint().url;
        let process = Command::new(program)
            .args(["--name", &self.name, "--log-level", "error", "--unsafe-no-fsync"])
            .arg(format!("--data-dir={}", folder.join(&self.name).display()))
            .arg(format!("--listen-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()))
            .arg(format!("--listen-client-urls={client}"))
            .arg(format!("--advertise-client-urls={client}"))
            .arg(format!("--initial-cluster-state={state}"))
            .arg(format!("--initial-cluster={}", list.join(",")))
            .stderr(Stdio::null())
            .spawn()
            .expect("LARDER_ETCD names an etcd");
        self.process = Some(process);
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a child process");
            process.wait().expect("a child process");
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut try_once: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = try_once().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn status(member: &Member) -> MemberStatus {
    let endpoint = member.endpoint();
    until("a member answers", || async { Grpc.probe(&endpoint, None).await.ok() }).await
}

#[tokio::test]
async fn a_member_joins_as_a_learner_is_sealed_and_is_removed_by_id() {
    let Ok(program) = std::env::var("LARDER_ETCD") else {
        return eprintln!("not run: LARDER_ETCD is not set");
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (mut seed, mut joiner) = (Member::new("seed"), Member::new("joiner"));
    seed.start(&program, folder.path(), "new", &[("seed", seed.peer_url())]);
    let access = Access { endpoints: vec![seed.endpoint()], tls: None };
    let first = status(&seed).await;
    assert_eq!((first.leader, first.members.len()), (first.member_id, 1));

    // Adding can be repeated, and a learner that has not started has no name yet.
    until("etcd accepts a learner", || async {
        Grpc.add_learner(&access, &joiner.peer_url()).await.ok()
    })
    .await;
    Grpc.add_learner(&access, &joiner.peer_url()).await.expect("there already");
    let listed = status(&seed).await.members;
    let learner = listed.iter().find(|record| record.learner).expect("listed").clone();
    assert_eq!((listed.len(), learner.name.as_str()), (2, ""));
    let early = Grpc.promote(&access, learner.id).await.expect_err("it has not started");
    assert!(matches!(early, Error::NotYet { .. }), "{early:?}");

    let both = [("seed", seed.peer_url()), ("joiner", joiner.peer_url())];
    joiner.start(&program, folder.path(), "existing", &both);
    let joined = status(&joiner).await;
    assert!(joined.learner && joined.members.is_empty(), "a learner returns no list: {joined:?}");
    assert_eq!(joined.member_id, learner.id);
    until("the learner catches up", || async { Grpc.promote(&access, learner.id).await.ok() })
        .await;
    // A repeated promotion first compares the logs, of which the promotion itself is an entry.
    until("a repeated promotion succeeds", || async {
        Grpc.promote(&access, learner.id).await.ok()
    })
    .await;

    // Sealed: with its data it starts, whatever its arguments say about the cluster.
    joiner.stop();
    let alone = [("joiner", joiner.peer_url())];
    joiner.start(&program, folder.path(), "existing", &alone);
    assert_eq!(status(&joiner).await.member_id, learner.id);
    // Without its data it does not start, so it cannot vote on a log that it has lost.
    joiner.stop();
    std::fs::remove_dir_all(folder.path().join("joiner")).expect("its data");
    joiner.start(&program, folder.path(), "existing", &alone);
    let ended = until("a sealed member without data ends", || {
        let ended = joiner.process.as_mut().expect("started").try_wait().expect("a child process");
        async move { ended }
    })
    .await;
    assert!(!ended.success());
    // One of two voters is not a quorum: the call fails within its deadline instead of hanging.
    let started = Instant::now();
    Grpc.list(&access, "/larder/").await.expect_err("no quorum");
    assert!(started.elapsed() < Duration::from_secs(5));
    let alone = status(&seed).await;
    assert_eq!(alone.members.len(), 2, "the list is returned without a quorum");
}

#[tokio::test]
async fn a_key_is_deleted_only_when_it_has_not_changed_since_it_was_read() {
    let Ok(program) = std::env::var("LARDER_ETCD") else {
        return eprintln!("not run: LARDER_ETCD is not set");
    };
    let folder = tempfile::tempdir().expect("a folder");
    let mut seed = Member::new("keys");
    seed.start(&program, folder.path(), "new", &[("keys", seed.peer_url())]);
    status(&seed).await;
    // The first endpoint is dead, so the second is used.
    let dead = Endpoint { url: "http://127.0.0.1:1".into() };
    let access = Access { endpoints: vec![dead, seed.endpoint()], tls: None };
    let put = |key: &str, value: &str| Change::Put { key: key.into(), value: value.into() };
    let first = Grpc.change(&access, put("/larder/a", "1")).await.expect("written");
    Grpc.change(&access, put("/other", "x")).await.expect("written");
    let listing = Grpc.list(&access, "/larder/").await.expect("listed");
    let keys: Vec<_> = listing.entries.iter().map(|e| (e.key.as_str(), e.changed)).collect();
    assert_eq!(keys, [("/larder/a", first)]);

    Grpc.change(&access, put("/larder/a", "2")).await.expect("written");
    let delete = |changed| Change::DeleteUnchanged { key: "/larder/a".into(), changed };
    Grpc.change(&access, delete(first)).await.expect("compared");
    let kept = Grpc.list(&access, "/larder/").await.expect("listed").entries;
    assert_eq!(kept.len(), 1, "it had changed since it was read");
    Grpc.change(&access, delete(kept[0].changed)).await.expect("compared");
    assert!(Grpc.list(&access, "/larder/").await.expect("listed").entries.is_empty());
    let none = Access { endpoints: Vec::new(), tls: None };
    assert!(matches!(Grpc.list(&none, "/").await, Err(Error::NoEndpoint)));
}
