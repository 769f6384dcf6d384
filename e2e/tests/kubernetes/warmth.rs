//! The promises W1 to W7: what a change costs readers and the origin while all keys are cached.
//!
//! `measure` is `cargo xtask bench warmth`; the other test guards them with a smaller load.

mod changes;
mod rig;

use std::path::PathBuf;
use std::time::Duration;

use larder_e2e::warmth::bars::{BARS, Bar, HEAD};
use larder_e2e::warmth::keys::Shape;

use self::rig::Plan;
use crate::world::{alone, sample, small_sample, together};

/// Names of promises with commas between them. Default: all.
const NAMES: &str = "LARDER_WARMTH_NAMES";
/// Seconds for which a change is observed at most.
const SECONDS: &str = "LARDER_WARMTH_SECONDS";
/// File for the table.
const TABLE: &str = "LARDER_WARMTH_TABLE";
/// Folder for the plots.
const PLOTS: &str = "LARDER_WARMTH_PLOTS";

#[test]
#[ignore = "takes twenty minutes: cargo xtask bench warmth"]
fn measure() {
    let world = alone();
    let variable = |name: &str| std::env::var(name).ok();
    let names = variable(NAMES);
    let bars: Vec<&Bar> = match &names {
        None => BARS.iter().collect(),
        Some(names) => names.split(',').map(|name| Bar::of(name).expect("W1 to W7")).collect(),
    };
    let seconds = variable(SECONDS).map_or(120, |text| text.parse().expect("a number"));
    let plan = Plan {
        shape: Shape::FULL,
        before: Duration::from_secs(15),
        after: Duration::from_secs(seconds),
        settle: Duration::from_secs(10),
        plots: variable(PLOTS).map(PathBuf::from),
    };
    let mut table = String::from(HEAD);
    for bar in bars {
        let shop = world.own_shop("warmth", &sample());
        let measured = rig::measure(&world, &shop, bar, &plan);
        table += &measured.row;
        println!("{HEAD}{}", measured.row);
        drop(shop);
        rig::wait_deleted(&world);
    }
    if let Some(file) = variable(TABLE) {
        std::fs::write(file, &table).expect("the file can be written");
    }
}

/// What the guard allows a change to cost, points. `cargo xtask bench warmth` judges the promises:
/// here other tests use the same processors. Without hand-over and replicas the changes cost 25 and
/// 15 points.
const GUARDED_DIP: f64 = 5.0;

#[test]
fn a_killed_member_and_a_rolling_change_keep_the_cluster_warm() {
    let world = together();
    let shop = world.own_shop("warmth", &small_sample());
    let plan = Plan {
        shape: Shape { keys: 5_000, ..Shape::FULL },
        before: Duration::from_secs(6),
        after: Duration::from_secs(20),
        settle: Duration::from_secs(6),
        plots: None,
    };
    for name in ["W4", "W1"] {
        let measured = rig::measure(&world, &shop, Bar::of(name).expect("a bar"), &plan);
        println!("{HEAD}{}", measured.row);
        assert!(measured.dip < GUARDED_DIP, "{name}: a dip of {:.1} points", measured.dip);
    }
}
