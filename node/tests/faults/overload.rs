//! R12: three times as many loads as the origin can take, and the hits of the same member.

use std::time::{Duration, Instant};

use larder_proto::contract::OriginLimits;

use super::figures::{ms, record};
use super::load::{Choice, Load, Window};
use super::rig::{BASE, KEYS, Rig, Setup, assert_no_failures};

/// The origin answers so slowly, and so many loads run at once: 100 loads a second saturate it.
/// Slow, so that the time for which a process waits for a processor matters little.
const ORIGIN_DELAY: Duration = Duration::from_millis(60);
const CONCURRENCY: u32 = 6;
const SATURATION: u32 = 100;
/// Load times that are left out: those after which an overload is noticed, and those in which the
/// full queue drains.
const SETTLING: u32 = 16 + 16 + 1;
/// A processor that others use can spoil a measurement, never improve it.
const MEASUREMENTS: u32 = 3;
const MEASURED: Duration = Duration::from_secs(2);
/// Reads of cached keys at the same time.
const HITS_PER_SECOND: u32 = 50;

/// One rate of new keys: what was answered of it, and what became of hits at the same time.
struct Step {
    loads: Window,
    hits: Window,
    per_second: f64,
}

impl Step {
    /// Runs for some time after a lead-in, which is left out.
    async fn run(rig: &Rig, (first_key, per_second): (u32, u32), lead_in: Duration) -> Self {
        let loads = Load::start(rig.stock(&[0]), per_second, Choice::NewFrom(first_key));
        let hits = Load::start(rig.stock(&[0]), HITS_PER_SECOND, Choice::Among(KEYS));
        let from = Instant::now() + lead_in;
        loads.run_for(lead_in + MEASURED).await;
        let to = Instant::now();
        let all = loads.stop().await;
        let loads = all.between(from, to);
        let hits = hits.stop().await.between(from, to);
        #[expect(clippy::cast_precision_loss, reason = "counts of reads")]
        let per_second =
            all.answered().ended_between(from, to).reads().len() as f64 / (to - from).as_secs_f64();
        Self { loads, hits, per_second }
    }
}

/// What a member does below, at and above saturation.
struct Overload {
    light: Step,
    peak: Step,
    over: Step,
    /// Resident memory after the overload, as a multiple of that before it.
    grown: f64,
}

impl Overload {
    /// The `nth` measurement reads keys of its own.
    async fn measure(rig: &Rig, nth: u32) -> Self {
        let resident = || rig.members[0].watch.last().expect("watched").resident_bytes;
        let key = |step| (3 * nth + step) * 1_000_000;
        let light = Step::run(rig, (key(1), SATURATION / 4), BASE / 2).await;
        let peak = Step::run(rig, (key(2), SATURATION), BASE / 2).await;
        let before = resident();
        let over = Step::run(rig, (key(3), 3 * SATURATION), SETTLING * ORIGIN_DELAY).await;
        let overload = Self { light, peak, over, grown: resident() / before };
        overload.record(rig.check_probes());
        overload
    }

    /// p99 of the answered loads: below saturation, and above it.
    fn accepted(&self) -> (Duration, Duration) {
        (self.light.loads.quantile(0.99), self.over.loads.answered().quantile(0.99))
    }

    /// The median time of a refusal, and of a hit at the same time: both cross the same connection.
    fn refusal_and_hit(&self) -> (Duration, Duration) {
        (self.over.loads.refused().call_quantile(0.5), self.over.hits.call_quantile(0.5))
    }

    fn other_errors(&self) -> usize {
        self.over.loads.failures().count() - self.over.loads.refused().reads().len()
    }

    /// What a busy processor does not touch.
    fn assert_complete(&self) {
        let Self { over, grown, .. } = self;
        assert_eq!(self.other_errors(), 0, "not RESOURCE_EXHAUSTED\n{}", over.loads.by_second());
        assert_no_failures(&over.hits);
        assert!(*grown < 1.1, "resident memory grows by a factor of {grown}");
    }

    /// The bars of rates and latencies that are missed.
    fn missed(&self) -> Vec<String> {
        let (over, peak) = (self.over.per_second, self.peak.per_second);
        let ((unloaded, accepted), (refusal, hit)) = (self.accepted(), self.refusal_and_hit());
        // On a busy machine both wait longer for a processor.
        let limit = (hit + Duration::from_millis(1)).max(hit * 3 / 2);
        let bars = [
            (over >= 0.9 * peak, format!("goodput {over:.0}/s, peak {peak:.0}/s")),
            (refusal < limit, format!("the member takes 1 ms: {refusal:?}, a hit {hit:?}")),
            (accepted <= 2 * unloaded, format!("p99 from {unloaded:?} to {accepted:?}")),
        ];
        bars.into_iter().filter(|(met, _)| !met).map(|(_, text)| text).collect()
    }

    fn record(&self, probes: u32) {
        let (over, peak) = (self.over.per_second, self.peak.per_second);
        let (unloaded, accepted) = self.accepted();
        let (refusal, hit) = self.refusal_and_hit();
        let (refused, all) = (self.over.loads.refused(), &self.over.loads);
        record(
            "R12",
            "loads at 3 times saturation",
            &[
                ("goodput", format!("{over:.0}/s, peak {peak:.0}/s")),
                ("accepted p99", format!("{}, unloaded {}", ms(accepted), ms(unloaded))),
                ("refused", format!("{} of {}", refused.reads().len(), all.reads().len())),
                ("median refusal", format!("{}, hit {}", ms(refusal), ms(hit))),
                ("other errors", self.other_errors().to_string()),
                ("resident memory", format!("x {:.2}", self.grown)),
                ("probes", format!("0 of {probes} failed")),
            ],
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_three_times_saturation_goodput_and_latencies_stay_and_refusals_are_fast() {
    let origin_limits = OriginLimits::new(CONCURRENCY, 2_000);
    let setup = Setup { members: 1, alone: true, origin_limits, ..Setup::default() };
    let Some(rig) = Rig::start(setup).await else { return };
    rig.origin.set_delay(ORIGIN_DELAY);
    let mut missed = Vec::new();
    for nth in 0..MEASUREMENTS {
        let overload = Overload::measure(&rig, nth).await;
        overload.assert_complete();
        missed = overload.missed();
        if missed.is_empty() {
            return;
        }
        println!("{}", overload.over.loads.by_second());
    }
    panic!("{missed:?}");
}
