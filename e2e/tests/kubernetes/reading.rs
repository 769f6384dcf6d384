//! Reads: a database's rows, a sidecar, and what Prometheus makes of them.

use std::time::Duration;

use larder_e2e::cluster::{repository, repository_file};
use larder_e2e::poll;
use larder_e2e::process;
use larder_e2e::prometheus::{Prometheus, http_get_any};

use crate::grpc::{base64, service_address, value_of};
use crate::world::{SHOP, world};

#[test]
fn the_sample_becomes_ready_and_serves_a_databases_rows() {
    let world = world();
    println!(
        "kubectl apply to Ready: {:.1} s, to the first hit: {:.1} s",
        world.apply_to_ready.as_secs_f64(),
        world.apply_to_first_hit.as_secs_f64()
    );
    let hit = world.get("students", "Tom").expect("a row");
    assert_eq!(value_of(&hit), base64("630"));
    assert!(hit.contains("shop-"), "the explanation names the owner: {hit}");

    let absent = world.get("students", "Nobody").expect_err("no row");
    assert!(absent.contains("NotFound"), "{absent}");
    let unknown = world.get("teachers", "Tom").expect_err("no such group");
    assert!(unknown.contains("FailedPrecondition") && unknown.contains("teachers"), "{unknown}");
    let empty = world.get("students", "").expect_err("no key");
    assert!(empty.contains("InvalidArgument"), "{empty}");

    let service = service_address(&world.cluster, SHOP, "shop").expect("a Service");
    let (status, body) =
        http_get_any(&format!("{service}:7680"), "/api?group=students&key=Tom").expect("HTTP");
    assert_eq!((status, body.contains("630")), (200, true), "{body}");
    let group = world.cluster.condition(SHOP, "cachegroup/students", "Ready").expect("a status");
    assert_eq!(group.status, "True", "{group:?}");
}

#[test]
fn an_application_reads_through_its_sidecar() {
    let world = world();
    let manifest = repository_file("manifests/examples/sidecar.yaml");
    world.cluster.apply(SHOP, &manifest).expect("the example is accepted");
    poll::until("the example's Job completes beside its sidecar", Duration::from_secs(60), || {
        let done =
            world.cluster.field(&["job/reader", "--namespace", SHOP], "/status/succeeded")?;
        if done == "1" { Ok(()) } else { Err(done) }
    });
    let log = world.cluster.must(&[
        "logs",
        "job/reader",
        "--namespace",
        SHOP,
        "--container",
        "application",
    ]);
    assert!(log.contains("630"), "{log}");
    println!("the application printed: {}", log.lines().next().unwrap_or_default());
    let mut delete = world.cluster.program("kubectl");
    delete.args(["delete", "--namespace", SHOP, "--wait=false", "--filename"]);
    delete.arg(repository().join("manifests/examples/sidecar.yaml"));
    process::output(&mut delete).expect("deleted");
}

#[test]
fn prometheus_scrapes_every_member_and_knows_the_true_hit_ratio() {
    let world = world();
    world.wait_members(3);
    let targets: Vec<String> =
        world.member_pods().iter().map(|pod| format!("\"{}:7690\"", pod.address)).collect();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: larder\n  \
         static_configs:\n  - targets: [{}]\n",
        targets.join(", ")
    );
    let prometheus = Prometheus::start(world.cluster.host(), 19090, &config);
    poll::until("every member is up", Duration::from_secs(30), || {
        let up = prometheus.query("up == 1")?;
        if up.len() == 3 { Ok(()) } else { Err(format!("{up:?}")) }
    });
    // Two totals, two seconds of scrapes apart from any read, and known reads between them.
    let totals = || {
        let of = |query: &str| -> Result<f64, String> {
            Ok(prometheus.query(query)?.first().map_or(0.0, |(_, value)| *value))
        };
        let all = of("sum(larder_gets_total{group=\"students\"})")?;
        let misses = of("sum(larder_gets_total{group=\"students\",result=~\"miss|error\"})")?;
        Ok::<(f64, f64), String>((all, misses))
    };
    let settled = || {
        let mut last = None;
        poll::until("settled totals", Duration::from_secs(20), || {
            let now = totals()?;
            std::thread::park_timeout(Duration::from_millis(1500));
            if last.replace(now) == Some(now) { Ok(now) } else { Err(format!("{now:?}")) }
        })
        .0
    };
    let before = settled();
    let (fresh, repeats) = (20_u32, 4_u32);
    for _ in 0..=repeats {
        for number in 0..fresh {
            world.get("students", &format!("student{}", 4900 + number)).expect("a row");
        }
    }
    let after = settled();
    let (asked, missed) = (after.0 - before.0, after.1 - before.1);
    println!("Prometheus counted {asked} reads and {missed} misses of 100 reads with 20 misses");
    assert!((asked - 100.0).abs() < 0.5 && (missed - 20.0).abs() < 0.5, "{asked} {missed}");
    let shown = prometheus.query("larder_hit_ratio{group=\"students\"}").expect("a ratio");
    assert_eq!(shown.len(), 3, "{shown:?}");
    assert!(shown.iter().all(|(_, ratio)| (0.0..=1.0).contains(ratio)), "{shown:?}");
}
