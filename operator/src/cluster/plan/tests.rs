//! The plan against a small model of etcd and the kubelet: after any history of faults the cluster
//! settles with every wanted voter, and no step breaks a quorum.
//!
//! A failing run prints its seed; `LARDER_SEED=<seed>` runs that one alone.

mod model;

use larder_runtime::random::Random;

use self::model::World;
use super::*;

/// Faults for a while, then none: the cluster must settle.
fn churn_then_settle(seed: u64) {
    let random = Random::seeded(seed);
    let mut world = World::new(&random);
    for _ in 0..60 {
        if random.below(3) == 0 {
            world.fault(&random);
        }
        world.kubelet();
        if random.below(5) != 0 {
            let plan = plan(&world.state());
            // The operator may die after any single write.
            let writes = if random.below(6) == 0 { random.below(3) } else { u64::MAX };
            world.apply(&plan, writes);
        }
    }
    world.heal();
    for round in 0..200 {
        world.kubelet();
        let plan = plan(&world.state());
        if plan.step == Step::Settled {
            world.assert_settled(&plan);
            return;
        }
        assert!(round < 199, "not settled: {plan:?} in {world:?}");
        world.apply(&plan, u64::MAX);
    }
}

#[test]
fn after_any_history_of_faults_the_cluster_settles_and_no_step_breaks_a_quorum() {
    if let Ok(seed) = std::env::var("LARDER_SEED") {
        return churn_then_settle(seed.parse().expect("a number"));
    }
    for seed in 0..1_000 {
        let run = std::panic::catch_unwind(|| churn_then_settle(seed));
        assert!(run.is_ok(), "failed with LARDER_SEED={seed}");
    }
}

/// Runs until the cluster settles and returns every step on the way.
fn steps(world: &mut World) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..60 {
        world.kubelet();
        let plan = plan(&world.state());
        world.apply(&plan, u64::MAX);
        if plan.step == Step::Settled {
            return steps;
        }
        if plan.step != Step::Wait {
            steps.push(plan.step);
        }
    }
    panic!("not settled after {steps:?}");
}

fn names_of(steps: &[Step]) -> Vec<String> {
    let names = steps.iter().map(|step| match step {
        Step::AddLearner { name, .. } => format!("add {name}"),
        Step::Promote { name, .. } => format!("promote {name}"),
        Step::Remove { name, why, .. } => format!("remove {name} {why:?}"),
        Step::Restart { pod } => format!("restart {pod}"),
        Step::Settled | Step::Wait => "none".into(),
    });
    names.collect()
}

#[test]
fn a_cluster_of_three_grows_from_one_seed_by_learners() {
    let mut world = World::calm(3, false);
    assert_eq!(
        names_of(&steps(&mut world)),
        ["add shop-etcd-1", "promote shop-etcd-1", "add shop-etcd-2", "promote shop-etcd-2"]
    );
}

#[test]
fn a_wiped_member_is_removed_by_id_and_replaced_under_a_new_name() {
    let mut world = World::calm(3, false);
    steps(&mut world);
    world.lose("shop-etcd-1");
    assert_eq!(
        names_of(&steps(&mut world)),
        ["remove shop-etcd-1 Lost(Data)", "add shop-etcd-3", "promote shop-etcd-3"]
    );
}

#[test]
fn a_pod_that_returns_with_its_volume_needs_no_step() {
    let mut world = World::calm(3, true);
    steps(&mut world);
    world.delete_pod("shop-etcd-1");
    assert_eq!(names_of(&steps(&mut world)), [""; 0]);
}

#[test]
fn scaling_in_removes_followers_and_keeps_the_leader() {
    let mut world = World::calm(3, false);
    steps(&mut world);
    world.make_leader("shop-etcd-2");
    world.wanted = 1;
    assert_eq!(
        names_of(&steps(&mut world)),
        ["remove shop-etcd-1 Surplus", "remove shop-etcd-0 Surplus"]
    );
}

#[test]
fn an_edit_is_rolled_out_by_surge_and_a_broken_one_costs_no_voter() {
    let mut world = World::calm(3, false);
    steps(&mut world);
    world.configure(1, true);
    for _ in 0..20 {
        world.kubelet();
        let plan = plan(&world.state());
        world.apply(&plan, u64::MAX);
        assert_eq!(world.live_voters(), 3);
    }
    world.configure(0, false);
    assert_eq!(names_of(&steps(&mut world)), ["remove shop-etcd-3 Surplus"]);
    world.configure(2, false);
    let done = names_of(&steps(&mut world));
    assert_eq!(done.iter().filter(|step| step.ends_with("Outdated")).count(), 3, "{done:?}");
}

#[test]
fn losing_two_of_three_starts_the_next_incarnation_from_one_seed() {
    let mut world = World::calm(3, true);
    steps(&mut world);
    world.lose("shop-etcd-0");
    world.lose("shop-etcd-2");
    world.kubelet();
    let first = plan(&world.state());
    assert_eq!(first.health, Health::Rebuilding);
    let seed = EtcdMember { name: "shop-etcd-3".into(), incarnation: 2, start: Start::Seed };
    assert_eq!(first.members, [seed]);
    assert_eq!(steps(&mut world).len(), 4);
}

#[test]
fn a_quorum_that_may_come_back_is_waited_for() {
    let mut world = World::calm(3, true);
    steps(&mut world);
    world.stop("shop-etcd-0");
    world.stop("shop-etcd-2");
    let waiting = plan(&world.state());
    assert_eq!(waiting.step, Step::Wait);
    assert!(matches!(waiting.health, Health::NoQuorum { .. }), "{waiting:?}");
    assert_eq!(waiting.members.len(), 3);
}
