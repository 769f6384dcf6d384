//! Three members in one process with the embedded registry, called over their ports.
//!
//! Sockets and time are real: tests poll for a condition with a deadline. Each test has its own
//! registry, members and origin.

mod cluster {
    mod batch;
    mod cold;
    mod drain;
    mod errors;
    mod frozen;
    mod hot_key;
    mod invalidation;
    mod large;
    pub(crate) mod links;
    mod peers;
    mod restart;
    pub(crate) mod rig;
    mod scale;
    mod superseded;
    mod tags;
    mod tls;
    mod tls_rig;
    mod views;
    mod warm;
    mod weight;
}

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::rig::{Cluster, eventually, get, http_get, raw_get};
use futures::future::join_all;
use larder_engine::PolicyKind;
use larder_proto::groupcachepb;
use larder_proto::groupcachepb::group_cache_client::GroupCacheClient;
use larder_proto::v1::admin_client::AdminClient;
use larder_proto::v1::{
    GetManyRequest, GetRequest, InvalidateRequest, Outcome, RingRequest, Source, StatusRequest,
};
use prost::Message;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const GROUP: &str = "students";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_cold_key_read_by_many_callers_at_every_member_is_loaded_once() {
    let cluster = Cluster::start(3).await;
    cluster.origin.delay_ms.store(50, Ordering::SeqCst);
    for key in ["Tom", "Jack", "Sam", "Ann"] {
        let calls = (0..3).flat_map(|member| (0..20).map(move |_| member));
        let answers = join_all(calls.map(|member| get(cluster.client(member), GROUP, key))).await;
        assert_eq!(answers.len(), 60);
        for answer in answers {
            assert_eq!(answer.expect("an answer").value, format!("{key} 1"));
        }
        assert_eq!(cluster.origin.loads_of(key), 1, "{key}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_member_answers_and_explains_the_source() {
    let cluster = Cluster::start(3).await;
    let mut sources = Vec::new();
    for round in 0..2 {
        for member in 0..3 {
            let mut request = Request::new(GetRequest {
                group: GROUP.into(),
                key: Bytes::from_static(b"Tom"),
                explain: true,
            });
            request.set_timeout(Duration::from_secs(5));
            let answer = cluster.client(member).get(request).await.expect("a value").into_inner();
            let explanation = answer.explanation.expect("requested");
            assert_eq!(explanation.owner, cluster.owner(GROUP, "Tom").await);
            assert_eq!(explanation.served_by, format!("shop-{member}"));
            assert!(
                explanation.ring_revision > 0 && explanation.policy == PolicyKind::default().name()
            );
            assert!(
                explanation.remaining_ms > 0 && explanation.remaining_ms <= 60_000,
                "{explanation:?}"
            );
            sources.push((round, explanation.served_by == explanation.owner, explanation.source()));
        }
    }
    let loaded = sources.iter().filter(|(_, _, source)| *source == Source::Loaded).count();
    assert_eq!(loaded, 1, "{sources:?}");
    assert!(sources.iter().all(|(round, owner, source)| match (round, owner, source) {
        (1, true, source) => *source == Source::Local,
        (1, false, source) => *source == Source::Hot,
        _ => true,
    }));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absent_is_loaded_once_and_empty_is_a_value() {
    let cluster = Cluster::start(3).await;
    for member in [0, 0, 1, 2] {
        let absent = get(cluster.client(member), GROUP, "absent").await.expect_err("absent");
        assert_eq!(absent.code(), Code::NotFound);
        let empty = get(cluster.client(member), GROUP, "empty").await.expect("a value");
        assert!(empty.value.is_empty());
    }
    assert_eq!((cluster.origin.loads_of("absent"), cluster.origin.loads_of("empty")), (1, 1));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_has_its_own_code() {
    let cluster = Cluster::start(3).await;
    let unknown = get(cluster.client(0), "studnets", "Tom").await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::FailedPrecondition);
    assert!(unknown.message().contains("studnets"), "{unknown}");
    let empty = get(cluster.client(0), GROUP, "").await.expect_err("empty");
    assert_eq!(empty.code(), Code::InvalidArgument);
    let long = get(cluster.client(0), GROUP, &"k".repeat(5_000)).await.expect_err("too long");
    assert_eq!(long.code(), Code::InvalidArgument);
    for member in 0..3 {
        let fails = get(cluster.client(member), GROUP, "fails").await.expect_err("origin");
        assert_eq!(fails.code(), Code::Unavailable, "{fails}");
        assert!(fails.message().contains("origin of group \"students\" failed"), "{fails}");
        let panics = get(cluster.client(member), GROUP, "panics").await.expect_err("panic");
        assert_eq!(panics.code(), Code::Unavailable, "{panics}");
    }
    cluster.origin.delay_ms.store(2_000, Ordering::SeqCst);
    for member in 0..3 {
        let began = Instant::now();
        // Not with a stock client, which would enforce the timeout itself.
        let key = format!("slow {member}");
        let code = raw_get(cluster.addresses(member).grpc, GROUP, &key, "100m").await;
        assert_eq!(code, Code::DeadlineExceeded);
        assert!(began.elapsed() < Duration::from_millis(1_000), "{:?}", began.elapsed());
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_returns_many_keys_of_all_owners_each_with_its_own_outcome() {
    let cluster = Cluster::start(3).await;
    let names: Vec<String> = (0..98).map(|n| format!("k{n}")).collect();
    let keys = names.iter().map(String::as_str).chain(["absent", "fails"]);
    let request = GetManyRequest {
        group: GROUP.into(),
        keys: keys.map(|key| Bytes::copy_from_slice(key.as_bytes())).collect(),
        explain: false,
    };
    for _ in 0..2 {
        let response = cluster.client(0).get_many(request.clone()).await.expect("answers");
        let results = response.into_inner().results;
        assert_eq!(results.len(), 100);
        for (name, result) in names.iter().zip(&results) {
            assert_eq!(result.value, format!("{name} 1"), "{result:?}");
        }
        assert_eq!(results[98].outcome(), Outcome::Absent);
        assert_eq!((results[99].outcome(), results[99].code), (Outcome::Error, 14));
    }
    // A hundred keys travel in batches, not one by one.
    for peer in ["shop-1", "shop-2"] {
        let series = format!("larder_peer_requests_total{{code=\"ok\",peer=\"{peer}\"}}");
        let batches = cluster.metric(0, &series).await.expect("there");
        assert!(batches > 0.0 && batches <= 16.0, "{batches} batches to {peer}");
    }
    let mut unknown = request.clone();
    unknown.group = "nobody".into();
    let error = cluster.client(0).get_many(unknown).await.expect_err("unknown");
    assert_eq!(error.code(), Code::FailedPrecondition);
    let mut many = request;
    many.keys = vec![Bytes::from_static(b"k"); 1_001];
    let error = cluster.client(0).get_many(many).await.expect_err("too many");
    assert_eq!(error.code(), Code::InvalidArgument);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_at_any_member_reaches_the_owner_and_every_copy() {
    let cluster = Cluster::start(3).await;
    for caller in 0..3 {
        for member in 0..3 {
            get(cluster.client(member), GROUP, "Tom").await.expect("a value");
        }
        let request =
            InvalidateRequest { group: GROUP.into(), keys: vec!["Tom".into()], tags: Vec::new() };
        let done = cluster.client(caller).invalidate(request).await.expect("done").into_inner();
        assert_eq!((done.members_reached, done.members_total), (3, 3));
        for member in 0..3 {
            let answer = get(cluster.client(member), GROUP, "Tom").await.expect("a value");
            assert_eq!(answer.value, format!("Tom {}", caller + 2));
        }
    }
    let whole = InvalidateRequest { group: GROUP.into(), ..Default::default() };
    let done = cluster.client(0).invalidate(whole).await.expect("done").into_inner();
    assert_eq!((done.members_reached, done.members_total), (3, 3));
    assert_eq!(get(cluster.client(1), GROUP, "Tom").await.expect("a value").value, "Tom 5");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_group_takes_effect_within_a_second_and_a_deleted_one_is_unknown() {
    let cluster = Cluster::start(3).await;
    let origin = cluster.serve_http_origin().await;
    let read = |member| get(cluster.client(member), "pages", "a/b");
    assert_eq!(read(0).await.expect_err("unknown").code(), Code::FailedPrecondition);

    cluster.put_group("pages", &format!("{origin}/one/{{key}}"), 60_000).await;
    let second = Duration::from_secs(1);
    for member in 0..3 {
        eventually(second, || async { read(member).await.is_ok_and(|a| a.value == "one a/b") })
            .await;
    }
    // Another origin: the values of the previous one must not outlive it.
    cluster.put_group("pages", &format!("{origin}/two/{{key}}"), 60_000).await;
    for member in 0..3 {
        eventually(second, || async { read(member).await.is_ok_and(|a| a.value == "two a/b") })
            .await;
    }
    // With a TTL of 0 every read loads. The other group keeps its entries.
    get(cluster.client(0), GROUP, "Tom").await.expect("a value");
    cluster.put_group("pages", &format!("{origin}/count/{{key}}"), 0).await;
    let mut seen = Vec::new();
    eventually(second, || async { read(0).await.is_ok_and(|a| a.value.starts_with(b"count")) })
        .await;
    for _ in 0..3 {
        seen.push(read(0).await.expect("a value").value);
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(get(cluster.client(0), GROUP, "Tom").await.expect("kept").value, "Tom 1");

    cluster.delete_group("pages").await;
    for member in 0..3 {
        let unknown = || async {
            read(member).await.is_err_and(|status| status.code() == Code::FailedPrecondition)
        };
        eventually(second, unknown).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_continue_when_a_member_crashes_and_the_ring_heals_after_its_lease() {
    let mut cluster = Cluster::start(3).await;
    let keys: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
    for key in &keys {
        get(cluster.client(0), GROUP, key).await.expect("a value");
    }
    cluster.crash(2);
    let (mut slowest, crashed) = (Duration::ZERO, Instant::now());
    for key in keys.iter().chain(&keys) {
        for member in 0..2 {
            let began = Instant::now();
            get(cluster.client(member), GROUP, key).await.expect("reads continue");
            slowest = slowest.max(began.elapsed());
        }
    }
    assert!(slowest < Duration::from_millis(900), "{slowest:?}");
    for key in &keys {
        let loads = cluster.origin.loads_of(key);
        assert!(loads <= 2, "{key}: {loads} loads");
    }
    let healed = || async { cluster.ring_of(0).await == ["shop-0", "shop-1"] };
    cluster.eventually(Duration::from_secs(10), healed).await;
    assert!(crashed.elapsed() < Duration::from_secs(8), "{:?}", crashed.elapsed());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_while_a_member_drains() {
    let mut cluster = Cluster::start(3).await;
    let keys: Vec<String> = (0..50).map(|n| format!("k{n}")).collect();
    let (clients, names) = ([cluster.client(0), cluster.client(1)], keys.clone());
    let load = tokio::spawn(async move {
        for round in 0..12 {
            for (n, key) in names.iter().enumerate() {
                let client = clients[(n + round) % 2].clone();
                if let Err(status) = get(client, GROUP, key).await {
                    return Err(format!("round {round}, {key}: {status}"));
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    });
    let drained = cluster.take(2).drain().await;
    assert!(drained, "in time");
    assert_eq!(load.await.expect("no panic"), Ok(()));
    let left = || async { cluster.ring_of(0).await == ["shop-0", "shop-1"] };
    cluster.eventually(Duration::from_secs(1), left).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_and_readiness_survive_the_loss_of_the_registry() {
    let cluster = Cluster::start(3).await;
    get(cluster.client(0), GROUP, "Tom").await.expect("a value");
    cluster.registry.faults().stall();
    let gone = || async { cluster.metric(0, "larder_registry_connected").await == Some(0.0) };
    cluster.eventually(Duration::from_secs(10), gone).await;
    for (member, key) in [(0, "Tom"), (1, "Jack"), (2, "Sam")] {
        get(cluster.client(member), GROUP, key).await.expect("reads continue");
        let (status, _) = http_get(cluster.addresses(member).admin, "/readyz").await;
        assert_eq!(status, 200);
    }
    cluster.registry.faults().resume();
    let back = || async { cluster.metric(0, "larder_registry_connected").await == Some(1.0) };
    cluster.eventually(Duration::from_secs(10), back).await;
    assert_eq!(cluster.ring_of(0).await.len(), 3);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_with_conflicting_rings_answer_and_never_wait_for_each_other() {
    let (a, b) = Cluster::conflicting_pair().await;
    assert_eq!(
        (a.owner(GROUP, "k0").await, b.owner(GROUP, "k0").await),
        ("right".into(), "left".into())
    );
    a.origin.delay_ms.store(30, Ordering::SeqCst);
    let began = Instant::now();
    let keys: Vec<String> = (0..200).map(|n| format!("k{n}")).collect();
    let calls = keys
        .iter()
        .flat_map(|key| [&a, &b].map(|cluster| async { get(cluster.client(0), GROUP, key).await }));
    for answer in join_all(calls).await {
        answer.expect("an answer");
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    for key in &keys {
        assert!(a.origin.loads_of(key) <= 2, "one for each member that was called");
    }
    assert!(a.metric(0, "larder_peer_not_owner_total").await.expect("there") > 0.0);
    assert!(a.metric(0, "larder_ring_view_mismatch_total").await.expect("there") > 0.0);
    a.stop().await;
    b.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_groupcache_family_read_over_grpc_and_http() {
    let cluster = Cluster::start(3).await;
    for member in 0..3 {
        let mut groupcache = GroupCacheClient::new(cluster.channel(member));
        let ask = |key: &'static str| groupcachepb::GetRequest {
            group: GROUP.into(),
            key: Bytes::from_static(key.as_bytes()),
        };
        let answer = groupcache.get(ask("Tom")).await.expect("a value").into_inner();
        assert_eq!(answer.value, "Tom 1");
        assert_eq!(groupcache.get(ask("absent")).await.expect_err("absent").code(), Code::NotFound);

        let http = cluster.addresses(member).http.expect("a member");
        let (status, body) = http_get(http, "/_cache/students/a%2Fb%20c").await;
        let body = groupcachepb::GetResponse::decode(&body[..]).expect("protobuf");
        assert_eq!((status, body.value), (200, Bytes::from_static(b"a/b c 1")));
        for (path, expected) in [
            ("/_cache/students/absent", 404),
            ("/_cache/nobody/Tom", 404),
            ("/_cache/students/", 400),
            ("/_cache/students/fails", 503),
        ] {
            assert_eq!(http_get(http, path).await.0, expected, "{path}");
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_answers_in_json() {
    let cluster = Cluster::start(3).await;
    let http = cluster.addresses(1).http.expect("a member");
    let ask = |path: &'static str| async move {
        let (status, body) = http_get(http, path).await;
        (status, serde_json::from_slice::<serde_json::Value>(&body).expect("JSON"))
    };
    let (status, body) = ask("/api?group=students&key=Tom&explain=true").await;
    assert_eq!(status, 200);
    assert_eq!((&body["value"], &body["encoding"]), (&"Tom 1".into(), &"utf-8".into()));
    assert_eq!(body["explanation"]["servedBy"], "shop-1");
    let (_, binary) = ask("/api?group=students&key=binary").await;
    assert_eq!((&binary["value"], &binary["encoding"]), (&"//79".into(), &"base64".into()));
    assert!(binary.get("explanation").is_none());
    let (status, absent) = ask("/api?group=students&key=absent").await;
    assert_eq!((status, &absent["found"]), (404, &false.into()));
    let (status, unknown) = ask("/api?group=nobody&key=Tom").await;
    assert_eq!((status, &unknown["error"]), (404, &"FailedPrecondition".into()));
    let (status, empty) = ask("/api?group=students&key=").await;
    assert_eq!((status, &empty["error"]), (400, &"InvalidArgument".into()));
    assert_eq!(ask("/api?key=Tom").await.0, 400);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_reflection_ring_status_and_metrics_are_correct() {
    let cluster = Cluster::start(3).await;
    for key in ["Tom", "Tom", "Tom", "absent"] {
        _ = get(cluster.client(0), GROUP, key).await;
    }
    let health = HealthClient::new(cluster.channel(0));
    for service in ["", "larder.v1.Cache"] {
        let request = HealthCheckRequest { service: service.into() };
        let serving = || async {
            let answer = health.clone().check(request.clone()).await;
            answer.is_ok_and(|answer| answer.into_inner().status == 1)
        };
        eventually(Duration::from_secs(2), serving).await;
    }
    let services = cluster.reflected_services(0).await;
    for service in ["larder.v1.Cache", "larder.v1.Admin", "groupcachepb.GroupCache"] {
        assert!(services.iter().any(|name| name == service), "{service} in {services:?}");
    }
    let mut admin = AdminClient::new(cluster.channel(0));
    let ring = admin.ring(RingRequest {}).await.expect("a ring").into_inner();
    assert_eq!(ring.members.len(), 3);
    assert_eq!(ring.placement_json, r#"{"rendezvous":{}}"#);
    let status = admin.status(StatusRequest {}).await.expect("a status").into_inner();
    assert_eq!((status.member.as_str(), status.ring_members), ("shop-0", 3));
    assert!(status.registry_connected && status.capacity_bytes > 0);
    let policy = PolicyKind::default().name();
    let group = status.groups.iter().find(|group| group.name == GROUP).expect("there");
    assert_eq!((group.hits, group.misses, group.policy.as_str()), (2, 2, policy), "{group:?}");

    for (name, expected) in [
        ("larder_ring_members", 3.0),
        ("larder_registry_connected", 1.0),
        ("larder_hit_ratio{group=\"students\"}", 0.5),
        ("larder_gets_total{group=\"students\",result=\"miss\"}", 2.0),
    ] {
        assert_eq!(cluster.metric(0, name).await, Some(expected), "{name}");
    }
    let (_, text) = http_get(cluster.addresses(0).admin, "/metrics").await;
    let text = String::from_utf8(text).expect("text");
    for name in ["larder_build_info{", "process_resident_memory_bytes", "larder_ring_revision"] {
        assert!(text.contains(name), "{name} in\n{text}");
    }
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 200, "{series} series at one group");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_answers_from_its_near_cache_and_from_the_members() {
    let cluster = Cluster::start(3).await;
    let sidecar = cluster.start_sidecar().await;
    let client = larder_proto::v1::cache_client::CacheClient::new(
        cluster.channel_to(sidecar.addresses().grpc),
    );
    for _ in 0..5 {
        assert_eq!(get(client.clone(), GROUP, "Tom").await.expect("a value").value, "Tom 1");
    }
    let absent = get(client.clone(), GROUP, "absent").await.expect_err("absent");
    assert_eq!(absent.code(), Code::NotFound);
    let unknown = get(client.clone(), "nobody", "Tom").await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::FailedPrecondition);
    let request =
        InvalidateRequest { group: GROUP.into(), keys: vec!["Tom".into()], tags: Vec::new() };
    let done = client.clone().invalidate(request).await.expect("done").into_inner();
    assert_eq!(done.members_reached, 3);
    assert_eq!(get(client, GROUP, "Tom").await.expect("a value").value, "Tom 2");
    let (status, _) = http_get(sidecar.addresses().admin, "/readyz").await;
    assert_eq!(status, 200);
    assert!(sidecar.drain().await);
    cluster.stop().await;
}
