//! A cluster in simulated time: its processes, its faults, and the checks of its state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use larder_node::membership::Membership;
use larder_proto::contract::{GroupContract, HttpOrigin, Origin as OriginContract, OriginLimits};
use larder_proto::keys::Keys;
use larder_proto::registry::Registration;
use larder_registry::{LocalRegistry, RegistryOptions};
use larder_runtime::random::Random;
use larder_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::fault::{Fault, Slot};
use crate::judge::{Check, Judge, Loader};
use crate::member::{self, Running, Surroundings};
use crate::network::Network;
use crate::origin::Origin;
use crate::plan::Plan;
use crate::registry::RegistryLink;
use crate::timeline::Timeline;

/// A leaving member serves on for this long, as a drain does.
const LINGER: Duration = Duration::from_millis(500);

pub(crate) struct World {
    pub(crate) around: Surroundings,
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) judge: Arc<Judge>,
    registry: LocalRegistry,
    keys: Keys,
    links: Vec<Arc<RegistryLink>>,
    slots: Mutex<Vec<Place>>,
    /// Ends the traffic.
    pub(crate) stopping: CancellationToken,
    /// Of the world itself: the registry.
    tasks: Tasks,
}

struct Place {
    running: Option<Running>,
    incarnation: u32,
    pod: u32,
}

impl World {
    pub(crate) fn new(plan: Plan, keep: bool) -> Arc<Self> {
        let random = Random::seeded(plan.seed ^ 0x6c61_7264_6572);
        let fork = || Random::seeded(random.next());
        let timeline = Arc::new(Timeline::start(keep));
        let judge = Arc::new(Judge::new(&plan));
        let tasks = Tasks::new(Handle::current());
        let options = RegistryOptions { random: fork(), ..RegistryOptions::default() };
        let registry = LocalRegistry::start(options, &tasks);
        let network = Network::new(fork(), plan.delay_ms, timeline.clone(), judge.clone());
        let origin = Origin::new(fork(), &plan, timeline.clone(), judge.clone());
        let call_timeout = Duration::from_secs(plan.lease_s) / 3;
        let link = |_| RegistryLink::new(registry.clone(), call_timeout);
        let links = (0..plan.members).map(link).collect();
        let place = |_| Place { running: None, incarnation: 0, pod: 0 };
        let slots = Mutex::new((0..plan.members).map(place).collect());
        let around = Surroundings { plan, random: fork(), network, origin };
        let stopping = CancellationToken::new();
        let keys = Keys::new("lab", "world");
        Arc::new(Self { around, timeline, judge, registry, keys, links, slots, stopping, tasks })
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.around.plan
    }

    /// The processes that run now, frozen ones included.
    pub(crate) fn running(&self) -> Vec<Running> {
        self.slots.lock().iter().filter_map(|place| place.running.clone()).collect()
    }

    /// For each place, whether the process there is registered.
    pub(crate) fn registered(&self) -> Vec<bool> {
        let slots = self.slots.lock();
        let is_registered = |(slot, place): (Slot, &Place)| {
            let running = place.running.as_ref()?;
            let (value, _) = self.registry.get(&self.keys.member(&member::name(slot)))?;
            let registration: Registration = serde_json::from_slice(&value).ok()?;
            (registration.op == 0 && registration.metadata.uid == running.uid).then_some(())
        };
        slots.iter().enumerate().map(|place| is_registered(place).is_some()).collect()
    }

    pub(crate) fn note(&self, text: &str) {
        self.timeline.add(&text, || format!("lab     {text}"));
    }

    pub(crate) fn write_contracts(&self) {
        for (number, group) in self.plan().groups.iter().enumerate() {
            let origin = self.judge.origin(number);
            let contract = GroupContract {
                policy: "S3Fifo".into(),
                origin: OriginContract::Http(HttpOrigin::new(member::origin_url(number, origin))),
                freshness: group.freshness.clone(),
                origin_limits: OriginLimits::new(group.concurrency, group.timeout_ms),
                guaranteed_bytes: 0,
                generation: i64::try_from(origin + 1).expect("few origins"),
            };
            let value = serde_json::to_vec(&contract).expect("strings and numbers only");
            self.registry.put(&self.keys.group(group.name), value);
        }
    }

    pub(crate) fn start(&self, slot: Slot, same_pod: bool) {
        let mut slots = self.slots.lock();
        let place = &mut slots[slot];
        place.incarnation += 1;
        place.pod += u32::from(!same_pod);
        let id = Loader { slot, incarnation: place.incarnation };
        let now_ms = self.timeline.now_ms();
        let running = member::start(&self.around, &self.links[slot], id, place.pod, now_ms);
        self.timeline
            .add(&("start", id, place.pod), || format!("m{slot}      starts as {}", running.uid));
        place.running = Some(running);
    }

    fn stop(&self, slot: Slot) -> Option<Running> {
        self.slots.lock()[slot].running.take()
    }

    fn kill(&self, running: &Running) {
        self.around.network.close(&running.address);
        running.process.kill();
        self.judge.crashed(running.id);
    }

    /// Begins and ends each fault at its time.
    pub(crate) async fn run_faults(self: &Arc<Self>, traffic_began: Instant) {
        let mut steps = Vec::new();
        for planned in &self.plan().faults {
            steps.push((planned.at_ms, true, planned.fault));
            steps.push((planned.at_ms + planned.lasts_ms, false, planned.fault));
        }
        // Stable: of two steps at one time, the earlier fault's comes first.
        steps.sort_by_key(|(at_ms, ..)| *at_ms);
        for (at_ms, begins, fault) in steps {
            sleep_until(traffic_began + Duration::from_millis(at_ms)).await;
            let now_ms = self.timeline.now_ms();
            let what = if begins { "begins" } else { "ends" };
            self.timeline.add(&("fault", begins, fault), || format!("lab     {fault}: {what}"));
            if begins {
                self.judge.fault_began(now_ms);
                self.begin(fault);
            } else {
                self.end(fault);
                self.judge.fault_ended(now_ms);
            }
        }
        sleep_until(traffic_began + Duration::from_millis(self.plan().healed_ms)).await;
    }

    fn begin(self: &Arc<Self>, fault: Fault) {
        match fault {
            Fault::RegistryCut { member } => self.links[member].set_cut(true),
            Fault::WatchLag { member, ms } => self.links[member].set_lag(ms),
            Fault::RegistryAway => self.registry.faults().stall(),
            Fault::LeaseLoss { member } => self.links[member].revoke_lease(),
            Fault::AllLeasesLost => _ = self.registry.faults().revoke_all_leases(),
            Fault::Compaction => {
                // Changes that no watch has delivered yet: every member has to list again.
                self.write_contracts();
                self.registry.faults().compact();
            }
            Fault::DataLoss => {
                self.registry.faults().lose_all_data();
                self.write_contracts();
            }
            Fault::Crash { member, .. } => {
                if let Some(running) = self.stop(member) {
                    self.kill(&running);
                }
            }
            Fault::Restart { member } => {
                if let Some(running) = self.stop(member) {
                    tokio::spawn(self.clone().leave(running));
                }
            }
            Fault::Freeze { member } => {
                if let Some(running) = &self.slots.lock()[member].running {
                    running.process.freeze();
                }
            }
            Fault::SlowOrigin { .. } | Fault::FailingOrigin { .. } => {
                self.around.origin.faults.begin(fault);
            }
            Fault::OriginChange { group } => {
                self.judge.origin_changed(group);
                self.write_contracts();
            }
            Fault::Delay { .. }
            | Fault::Reorder { .. }
            | Fault::Loss { .. }
            | Fault::Reset { .. }
            | Fault::OneWay { .. }
            | Fault::Partition { .. }
            | Fault::Isolation { .. } => {
                self.around.network.faults.begin(fault);
            }
        }
    }

    fn end(&self, fault: Fault) {
        match fault {
            Fault::RegistryCut { member } => self.links[member].set_cut(false),
            Fault::WatchLag { member, .. } => self.links[member].set_lag(0),
            Fault::RegistryAway => self.registry.faults().resume(),
            Fault::LeaseLoss { .. }
            | Fault::AllLeasesLost
            | Fault::Compaction
            | Fault::DataLoss
            | Fault::OriginChange { .. } => {}
            Fault::Crash { member, same_uid } => self.start(member, same_uid),
            Fault::Restart { member } => self.start(member, false),
            Fault::Freeze { member } => {
                if let Some(running) = &self.slots.lock()[member].running {
                    self.judge.frozen(member, self.timeline.now_ms());
                    running.process.thaw();
                }
            }
            Fault::SlowOrigin { .. } | Fault::FailingOrigin { .. } => {
                self.around.origin.faults.end(fault);
            }
            Fault::Delay { .. }
            | Fault::Reorder { .. }
            | Fault::Loss { .. }
            | Fault::Reset { .. }
            | Fault::OneWay { .. }
            | Fault::Partition { .. }
            | Fault::Isolation { .. } => {
                self.around.network.faults.end(fault);
            }
        }
    }

    /// Leaves as a drain does.
    async fn leave(self: Arc<Self>, running: Running) {
        let Running { process, member, tasks, membership, .. } = &running;
        member.ready.close("draining");
        let membership = membership.lock().take();
        if let Some(membership) = membership {
            process.run(Membership::leave(membership)).await;
        }
        sleep(LINGER).await;
        self.around.network.close(&running.address);
        _ = tasks.stop(Duration::from_secs(1)).await;
        self.kill(&running);
    }

    /// True once every ring is whole and every member ready, within `limit`.
    pub(crate) async fn becomes_whole(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            let whole =
                |running: &Running| running.member.ring_members().len() == self.plan().members;
            let ready = |running: &Running| running.member.ready.is_ready();
            if self.running().iter().all(|running| whole(running) && ready(running)) {
                return true;
            }
            sleep(Duration::from_millis(20)).await;
        }
        false
    }

    pub(crate) fn check_rings(&self) {
        let all = self.running();
        let identity = |running: &Running| (member::name(running.id.slot), running.uid.clone());
        let expected: BTreeMap<String, String> = all.iter().map(identity).collect();
        for running in all {
            let members = running.member.ring_members();
            let ready = running.member.ready.is_ready();
            if members != expected || !ready {
                let slot = running.id.slot;
                let text = format!("m{slot} has the ring {members:?} (ready: {ready})");
                self.judge.violate(Check::Convergence, self.timeline.now_ms(), text);
            }
        }
    }

    /// True if no member runs more than `tasks`.
    pub(crate) fn has_at_most(&self, tasks: usize) -> bool {
        self.running().iter().all(|running| running.tasks.running() <= tasks)
    }

    /// What has to hold when nothing is asked any more.
    pub(crate) fn check_rest(&self, tasks_before: usize) {
        let now_ms = self.timeline.now_ms();
        for Running { id, tasks, member, .. } in self.running() {
            let slot = id.slot;
            let cache = &member.cache;
            let (waiting, in_flight, now) = (cache.waiting(), cache.in_flight(), tasks.running());
            if waiting > 0 {
                self.judge.violate(
                    Check::Leak,
                    now_ms,
                    format!("{waiting} requests wait at m{slot}"),
                );
            }
            if in_flight > 0 {
                let text = format!("{in_flight} loads and forwards have not ended at m{slot}");
                self.judge.violate(Check::Leak, now_ms, text);
            }
            if now > tasks_before {
                let text = format!("m{slot} runs {now} tasks, {tasks_before} after its start");
                self.judge.violate(Check::Leak, now_ms, text);
            }
            let (used, capacity) = (cache.used_bytes(), cache.capacity_bytes());
            if used > capacity {
                let text = format!("m{slot} uses {used} of {capacity} bytes");
                self.judge.violate(Check::Memory, now_ms, text);
            }
            self.timeline.add(&("rest", slot, waiting, now, used), || {
                format!("m{slot}      rests with {now} tasks and {used} bytes")
            });
        }
        // The registry's own task.
        self.tasks.stopping().cancel();
    }
}
