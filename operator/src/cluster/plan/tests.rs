//! Plan against a small model of etcd and of the kubelet: from any history of faults the cluster
//! comes to rest with every wanted voter, and no step of ours takes a quorum away.
//!
//! A failing run prints its seed; `LARDER_SEED=<seed>` runs that one alone.

mod model;

use larder_runtime::random::Random;

use self::model::{World, naming};
use super::*;

/// Faults for a while, then peace: everything must come to rest.
fn churn_then_rest(seed: u64) {
    let random = Random::seeded(seed);
    let mut world = World::new(&random);
    for _ in 0..60 {
        if random.below(3) == 0 {
            world.fault(&random);
        }
        world.kubelet();
        if random.below(5) != 0 {
            let plan = plan(&world.seen());
            // The operator may die after any single write.
            let writes = if random.below(6) == 0 { random.below(3) } else { u64::MAX };
            world.apply(&plan, writes);
        }
    }
    world.heal();
    for round in 0..200 {
        world.kubelet();
        let plan = plan(&world.seen());
        if plan.step == Step::Rest {
            world.assert_settled(&plan);
            return;
        }
        assert!(round < 199, "not at rest: {plan:?} in {world:?}");
        world.apply(&plan, u64::MAX);
    }
}

#[test]
fn any_history_of_faults_comes_to_rest_and_no_step_drops_quorum() {
    if let Ok(seed) = std::env::var("LARDER_SEED") {
        return churn_then_rest(seed.parse().expect("a number"));
    }
    for seed in 0..1_000 {
        let run = std::panic::catch_unwind(|| churn_then_rest(seed));
        assert!(run.is_ok(), "failed with LARDER_SEED={seed}");
    }
}

/// Runs from nothing to rest and gives every step on the way.
fn steps(world: &mut World) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..60 {
        world.kubelet();
        let plan = plan(&world.seen());
        world.apply(&plan, u64::MAX);
        if plan.step == Step::Rest {
            return steps;
        }
        if plan.step != Step::Wait {
            steps.push(plan.step);
        }
    }
    panic!("no rest after {steps:?}");
}

fn words(steps: &[Step]) -> Vec<String> {
    let said = steps.iter().map(|step| match step {
        Step::AddLearner { name, .. } => format!("add {name}"),
        Step::Promote { name, .. } => format!("promote {name}"),
        Step::Remove { name, why, .. } => format!("remove {name} {why:?}"),
        Step::Restart { pod } => format!("restart {pod}"),
        Step::Rest | Step::Wait => "rest".into(),
    });
    said.collect()
}

#[test]
fn a_cluster_of_three_grows_from_one_seed_by_learners() {
    let mut world = World::calm(3, false);
    assert_eq!(
        words(&steps(&mut world)),
        ["add shop-etcd-1", "promote shop-etcd-1", "add shop-etcd-2", "promote shop-etcd-2"]
    );
}

#[test]
fn a_wiped_member_is_removed_by_id_and_comes_back_under_a_new_name() {
    let mut world = World::calm(3, false);
    steps(&mut world);
    world.lose("shop-etcd-1");
    assert_eq!(
        words(&steps(&mut world)),
        ["remove shop-etcd-1 Lost(Data)", "add shop-etcd-3", "promote shop-etcd-3"]
    );
}

#[test]
fn a_pod_that_comes_back_with_its_volume_is_left_alone() {
    let mut world = World::calm(3, true);
    steps(&mut world);
    world.delete_pod("shop-etcd-1");
    assert_eq!(words(&steps(&mut world)), [""; 0]);
}

#[test]
fn scale_in_removes_followers_and_leaves_the_leader() {
    let mut world = World::calm(3, false);
    steps(&mut world);
    world.make_leader("shop-etcd-2");
    world.wanted = 1;
    assert_eq!(
        words(&steps(&mut world)),
        ["remove shop-etcd-1 Surplus", "remove shop-etcd-0 Surplus"]
    );
}

#[test]
fn an_edit_arrives_by_surge_and_a_broken_one_costs_no_voter() {
    let mut world = World::calm(3, false);
    steps(&mut world);
    world.configure(1, true);
    for _ in 0..20 {
        world.kubelet();
        let plan = plan(&world.seen());
        world.apply(&plan, u64::MAX);
        assert_eq!(world.live_voters(), 3);
    }
    world.configure(0, false);
    assert_eq!(words(&steps(&mut world)), ["remove shop-etcd-3 Surplus"]);
    world.configure(2, false);
    let done = words(&steps(&mut world));
    assert_eq!(done.iter().filter(|step| step.ends_with("Outdated")).count(), 3, "{done:?}");
}

#[test]
fn two_of_three_wiped_begins_the_next_incarnation_from_one_seed() {
    let mut world = World::calm(3, true);
    steps(&mut world);
    world.lose("shop-etcd-0");
    world.lose("shop-etcd-2");
    world.kubelet();
    let first = plan(&world.seen());
    assert_eq!(first.health, Health::Rebuilding);
    let seed = EtcdMember { name: "shop-etcd-3".into(), incarnation: 2, start: Start::Seed };
    assert_eq!(first.members, [seed]);
    assert_eq!(steps(&mut world).len(), 4);
}

#[test]
fn quorum_that_may_come_back_is_waited_for() {
    let mut world = World::calm(3, true);
    steps(&mut world);
    world.stop("shop-etcd-0");
    world.stop("shop-etcd-2");
    let waiting = plan(&world.seen());
    assert_eq!(waiting.step, Step::Wait);
    assert!(matches!(waiting.health, Health::NoQuorum { .. }), "{waiting:?}");
    assert_eq!(waiting.members.len(), 3);
}

#[test]
fn names_come_back_from_peer_urls() {
    let naming = naming();
    let url = naming.peer_url("shop-etcd-7");
    assert_eq!(url, "http://shop-etcd-7-0.shop-etcd-peers.prod.svc:2380");
    assert_eq!(naming.name_in(&url).as_deref(), Some("shop-etcd-7"));
    assert_eq!(naming.name_in("http://elsewhere:2380"), None);
}
