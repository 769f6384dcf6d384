//! Reads: rows of a database, a sidecar, and the metrics that Prometheus scrapes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use larder_e2e::cluster::{repository, repository_file};
use larder_e2e::poll;
use larder_e2e::process;
use larder_e2e::prometheus::{Prometheus, http_get_any};

use crate::grpc::{base64, value_of};
use crate::world::{sample_group, together};

#[test]
fn the_sample_becomes_ready_and_serves_a_databases_rows() {
    let world = together();
    let shop = world.shop();
    println!(
        "kubectl apply to Ready: {:.1} s, to the first hit: {:.1} s",
        shop.apply_to_ready.as_secs_f64(),
        shop.apply_to_first_hit.as_secs_f64()
    );
    let hit = shop.get("students", "Tom").expect("a row");
    assert_eq!(value_of(&hit), base64("630"));
    assert!(hit.contains("shop-"), "the explanation names the owner: {hit}");

    let absent = shop.get("students", "Nobody").expect_err("no row");
    assert!(absent.contains("NotFound"), "{absent}");
    let unknown = shop.get("teachers", "Tom").expect_err("no such group");
    assert!(unknown.contains("FailedPrecondition") && unknown.contains("teachers"), "{unknown}");
    let empty = shop.get("students", "").expect_err("no key");
    assert!(empty.contains("InvalidArgument"), "{empty}");

    let service = shop.service_address().expect("a Service");
    let (status, body) =
        http_get_any(&format!("{service}:7680"), "/api?group=students&key=Tom").expect("HTTP");
    assert_eq!((status, body.contains("630")), (200, true), "{body}");
    let group = world.cluster.condition(&shop.namespace, "cachegroup/students", "Ready");
    let group = group.expect("a status");
    assert_eq!(group.status, "True", "{group:?}");
}

#[test]
fn an_application_reads_through_its_sidecar() {
    let world = together();
    let namespace = world.shop().namespace.as_str();
    let manifest = repository_file("manifests/examples/sidecar.yaml");
    world.cluster.apply(namespace, &manifest).expect("the example is accepted");
    poll::until("the example's Job completes", Duration::from_secs(60), || {
        let done =
            world.cluster.field(&["job/reader", "--namespace", namespace], "/status/succeeded")?;
        if done == "1" { Ok(()) } else { Err(done) }
    });
    let logs = ["logs", "job/reader", "--container", "application", "--namespace", namespace];
    let log = world.cluster.must(&logs);
    assert!(log.contains("630"), "{log}");
    println!("the application printed: {}", log.lines().next().unwrap_or_default());
    let mut delete = world.cluster.program("kubectl");
    delete.args(["delete", "--namespace", namespace, "--wait=false", "--filename"]);
    delete.arg(repository().join("manifests/examples/sidecar.yaml"));
    process::output(&mut delete).expect("deleted");
}

#[test]
fn prometheus_scrapes_every_member_and_knows_the_true_hit_ratio() {
    let world = together();
    let shop = world.shop();
    shop.wait_members(3);
    // A group that nothing else reads, and whose entries do not expire during the test.
    let group = sample_group("counted").replace("ttlSeconds: 60", "ttlSeconds: 3600");
    world.cluster.apply(&shop.namespace, &group).expect("accepted");
    let limit = Duration::from_secs(30);
    world.cluster.wait_true(&shop.namespace, "cachegroup/counted", "Ready", limit);
    let targets: Vec<String> =
        shop.member_pods().iter().map(|pod| format!("\"{}:7690\"", pod.address)).collect();
    let prometheus = Prometheus::start(
        world.cluster.host(),
        &format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: larder\n  \
             static_configs:\n  - targets: [{}]\n",
            targets.join(", ")
        ),
    );
    let (fresh, repeats) = (20_u32, 4_u32);
    for _ in 0..=repeats {
        for number in 0..fresh {
            shop.get("counted", &format!("student{}", 4900 + number)).expect("a row");
        }
    }
    let read = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    poll::until("every member is scraped after the last read", limit, || {
        // Of a plain selector only, `timestamp` is the time of the scrape.
        let scraped = prometheus.query("timestamp(up) and up == 1")?;
        let fresh = scraped.iter().filter(|(_, at)| *at > read).count();
        if fresh == 3 { Ok(()) } else { Err(format!("{scraped:?}")) }
    });
    let total = |results: &str| {
        let query = format!("sum(larder_gets_total{{group=\"counted\",result=~\"{results}\"}})");
        prometheus.query(&query).expect("an answer").first().map_or(0.0, |(_, total)| *total)
    };
    let (reads, misses) = (total(".*"), total("miss|error"));
    println!("Prometheus counted {reads} reads and {misses} misses of 100 reads with 20 misses");
    assert!((reads - 100.0).abs() < 0.5 && (misses - 20.0).abs() < 0.5, "{reads} {misses}");
    let shown = prometheus.query("larder_hit_ratio{group=\"counted\"}").expect("a ratio");
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(shown.iter().all(|(_, ratio)| (0.0..=1.0).contains(ratio)), "{shown:?}");
}
