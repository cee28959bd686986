//! One fault: the flow before it, under it and after it, and the account at the end.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::flow::{Flow, Pulse};
use super::kinds::Kinds;
use super::row::Row;
use super::{is_long, pick};
use crate::load::evidence::{Evidence, Violation};
use crate::load::orders::Orders;
use crate::load::report::{Failure, fail};
use crate::load::world::{Setup, World};
use crate::rig::event::Event;
use crate::rig::eventually;

/// Commands a second.
const RATE: u32 = 20;
/// Eko's usual latency, in milliseconds.
pub(super) const LATENCY: u32 = 30;

/// How soon after the broker's port opened a worker consumes, and how long a cluster that loses
/// a node may hold it up.
pub(super) const PROMPT: Duration = Duration::from_secs(2);

/// How long a fault of one kind may hold up that kind, and the others: in the long form, and in the
/// short one beside other tests.
const SAME_KIND: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(20));
const OTHER_KINDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// A world with a flow of commands through it.
pub(super) struct Scene {
    pub(super) world: World,
    pub(super) flow: Flow,
    pulse: Pulse,
    kinds: Option<Kinds>,
    row: Row,
    struck: Option<Instant>,
    relieved: Instant,
    /// That moment by the clock that events show, and how many commands there were by then.
    before: (Timestamp, usize),
    /// What commands may end with beside success, where the fault leaves no other truth.
    allowed: &'static [&'static str],
    most_calls: u64,
    most_gap: Duration,
    most_sessions: usize,
    sessions_before: usize,
}

impl Scene {
    /// Starts all, and waits until commands are answered.
    pub(super) async fn begin(order: u32, fault: &'static str, setup: Setup) -> Self {
        let scene = Self::over(order, fault, World::start(setup).await).await;
        scene.until_beats(5).await;
        scene
    }

    /// Starts a flow through a world as it is.
    pub(super) async fn over(order: u32, fault: &'static str, world: World) -> Self {
        world.simulator.latency(LATENCY).await;
        let flow = Flow::start(world.address(), fastrand::u64(..1_000_000), RATE);
        let pulse = Pulse::watch(world.address());
        let row = Row { order, fault, ..Row::default() };
        let (struck, relieved, before) = (None, Instant::now(), (Timestamp::now(), 0));
        let (allowed, most_calls): (&[&str], _) = (&[], u64::MAX);
        let (most_gap, kinds) = (Duration::MAX, None);
        let (most_sessions, sessions_before) = (usize::MAX, 0);
        Self {
            world,
            flow,
            pulse,
            kinds,
            row,
            struck,
            relieved,
            before,
            allowed,
            most_calls,
            most_gap,
            most_sessions,
            sessions_before,
        }
    }

    /// One message, queue or client is the cause: watches what that costs the commands of the kinds
    /// that it is of, and of the others; nobody may lose a session over it.
    pub(super) async fn of_one_cause(&mut self, struck: &'static [&'static str]) {
        self.kinds = Some(Kinds::watch(&self.world, struck).await);
        self.most_sessions = 0;
        self.until_beats(5).await;
    }

    /// How often workers have connected.
    pub(super) fn sessions(&self) -> usize {
        let logs = self.world.logs.0.iter();
        logs.map(|log| log.text().matches("connected to the broker; consuming").count()).sum()
    }

    /// Waits until news was seen so many times more.
    pub(super) async fn until_beats(&self, count: usize) {
        let goal = self.pulse.count() + count;
        let told = async || (self.pulse.count() >= goal).then_some(());
        eventually(&format!("commands end under {}", self.row.fault), told).await;
    }

    /// The fault begins, for the first time or once more.
    pub(super) fn strike(&mut self) {
        if self.struck.is_none() {
            self.sessions_before = self.sessions();
        }
        self.struck.get_or_insert_with(Instant::now);
    }

    /// Lasts for a while; longer in the long form.
    pub(super) async fn last(&mut self, short_ms: u64, long_s: u64) {
        let time = pick(Duration::from_millis(short_ms), Duration::from_secs(long_s));
        self.extent(format!("{} s", time.as_secs_f64()));
        tokio::time::sleep(time).await;
    }

    /// How long, how often or how much of the fault there is.
    pub(super) fn extent(&mut self, extent: String) {
        self.row.extent = extent;
    }

    /// The fault is over.
    pub(super) fn relieve(&mut self) {
        self.relieved = Instant::now();
        self.before = (Timestamp::now(), self.flow.published());
    }

    /// The fault is over, and was so when the broker's port opened: measures how long it takes
    /// from there until every worker consumes.
    pub(super) async fn relieve_at(&mut self, opened: Instant) {
        self.relieve();
        self.relieved = opened;
        self.before.0 -= SignedDuration::try_from(opened.elapsed()).unwrap();
        for worker in &mut self.world.workers {
            worker.ready().await;
        }
        self.row.consuming = self.row.consuming.max(Some(opened.elapsed()));
    }

    /// Lets commands end with these outcomes, too.
    pub(super) fn allow(&mut self, outcomes: &'static [&'static str]) {
        self.allowed = outcomes;
    }

    /// Waits until every worker consumes from every queue.
    pub(super) async fn until_working(&mut self) {
        is_working(&mut self.world).await;
    }

    /// Waits until no command is on its way; the flow is held.
    pub(super) async fn until_idle(&mut self, orders: &Orders) {
        self.world.reconnect().await;
        let world = &mut self.world;
        let goal = orders.len();
        eventually("all commands are told", async || (world.told().await >= goal).then_some(()))
            .await;
        for worker in &mut self.world.workers {
            let idle = async || {
                let metrics = worker.metrics().await;
                (metrics.value("in_flight", &[]) == 0.0).then_some(())
            };
            eventually("the worker has nothing in its hands", idle).await;
        }
    }

    /// Lets no command cost more calls than these.
    pub(super) fn at_most_calls(&mut self, calls: u64) {
        self.most_calls = calls;
    }

    /// Lets no gap be longer than this; in the long form only, which has the machine to itself.
    pub(super) fn at_most_gap(&mut self, gap: Duration) {
        self.most_gap = pick(Duration::MAX, gap);
    }

    /// What took longer than promised.
    fn too_slow(&self) -> Vec<Violation> {
        let promised = pick(Duration::MAX, PROMPT);
        let mut violations = Vec::new();
        let Row { gap, gaps, consuming, sessions, .. } = self.row;
        if sessions > self.most_sessions {
            violations.push(Violation::new("", format!("{sessions} sessions were opened")));
        }
        if self.kinds.is_some() {
            let (same, other) = (gaps.0.unwrap_or_default(), gaps.1);
            if same > pick(SAME_KIND.1, SAME_KIND.0) || other > pick(OTHER_KINDS.1, OTHER_KINDS.0) {
                violations.push(Violation::new("", format!("nothing of a kind ended: {gaps:?}")));
            }
        }
        if gap > self.most_gap {
            violations.push(Violation::new("", format!("nothing ended for {gap:?}")));
        }
        if let Some(took) = consuming.filter(|took| *took > promised) {
            violations.push(Violation::new("", format!("it took {took:?} to consume again")));
        }
        violations
    }

    /// Sees that the line goes on by itself, and settles the account.
    pub(super) async fn finish(mut self) {
        let next = async || self.pulse.first_after(self.relieved);
        let what = format!("a command ends after {}", self.row.fault);
        self.row.recovery = eventually(&what, next).await.duration_since(self.relieved);
        tokio::time::sleep(if is_long() { Duration::from_secs(5) } else { QUIET }).await;
        let struck = self.struck.expect("something went wrong");
        self.row.gap = self.pulse.longest_gap(struck, Instant::now());
        if let Some(kinds) = &self.kinds {
            self.row.gaps = kinds.longest_gaps(struck, Instant::now());
        }
        self.row.sessions = self.sessions() - self.sessions_before;
        let too_slow = self.too_slow();
        self.kinds = None;
        let orders = self.flow.end().await;
        let mut world = self.world;
        world.reconnect().await;
        let mut evidence = Evidence::default();
        let mut violations = world.until_all_told(&orders, &mut evidence).await;
        self.row.lost = violations.len();
        is_working(&mut world).await;
        violations.extend(world.stop(&mut evidence).await);
        let eko = world.simulator.state().await;
        violations.extend(evidence.check(&orders, &eko));
        violations.extend(not_allowed(&orders, &evidence, self.allowed));
        violations.extend(called_too_often(&evidence, self.most_calls));
        let executions = eko["executions"].as_object().unwrap().values();
        self.row.twice = executions.filter(|count| count.as_u64() > Some(1)).count();
        self.row.commands = orders.len();
        let (end, published) = self.before;
        self.row.settled = settled(&evidence, end, published);
        self.row.recovery = self.row.recovery.max(first_end(&evidence, end));
        self.row.repeats = evidence.repeats;
        self.row.wrong = violations.len() - self.row.lost;
        // That is no untruth, and the row shows it.
        violations.extend(too_slow);
        self.row.keep();
        if !violations.is_empty() {
            let (orders, evidence, violations) = (&orders, &evidence, &violations);
            fail(Failure { title: self.row.fault, orders, evidence, violations }, world).await;
        }
        world.remove().await;
    }
}

/// How long the flow goes on after the recovery, in the short form.
const QUIET: Duration = Duration::from_millis(1_500);

/// How long the commands that were there when the fault ended took from then.
fn settled(evidence: &Evidence, end: Timestamp, published: usize) -> Duration {
    let ids = (0..published).map(Orders::plain_id);
    let ends = ids.flat_map(|id| evidence.outcomes(&id).into_iter().map(time_of));
    ends.max().map_or(Duration::ZERO, |last| since(end, last))
}

/// How long it took from the end of the fault until a command ended: what is seen first may
/// have been told before.
fn first_end(evidence: &Evidence, end: Timestamp) -> Duration {
    let later = evidence.events.values().map(time_of).filter(|time| *time > end);
    later.min().map_or(Duration::ZERO, |first| since(end, first))
}

fn time_of(event: &Event) -> Timestamp {
    event.text("/time").parse().unwrap()
}

fn since(begin: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(begin)).unwrap_or_default()
}

/// Every worker consumes, and nothing is paused.
async fn is_working(world: &mut World) {
    for worker in &mut world.workers {
        worker.ready().await;
        let unpaused = async || {
            let metrics = worker.metrics().await;
            (metrics.value("paused", &[]) == 0.0).then_some(())
        };
        eventually("nothing is paused any more", unpaused).await;
    }
}

/// Commands that took more calls than the fault can explain.
fn called_too_often(evidence: &Evidence, most: u64) -> impl Iterator<Item = Violation> {
    let calls = evidence.events.values().map(|event| (event.command_id(), event.attempts()));
    let too_often = calls.filter(move |(_, calls)| *calls > most);
    too_often.map(|(id, calls)| Violation::new(id, format!("{calls} calls were made")))
}

/// Commands that ended otherwise than the fault can explain (invariant 6).
fn not_allowed(orders: &Orders, evidence: &Evidence, allowed: &[&str]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let valid = orders.known.iter().filter(|(_, known)| known.is_valid());
    for id in valid.map(|(id, _)| id) {
        for end in evidence.outcomes(id) {
            let told = end.told();
            let is_right = end.outcome() == "succeeded" || allowed.contains(&told.as_str());
            if !is_right {
                violations.push(Violation::new(id, format!("it ended as {told}")));
            }
        }
    }
    violations
}
