//! What every test stands on: a prefix of its own in a real RabbitMQ, an Eko, and a worker; and a
//! [`Rig::finish`] that fails the test when anything is left over, leaked or unread.

pub(crate) mod broker;
pub(crate) mod builder;
pub(crate) mod ca;
pub(crate) mod clock;
pub(crate) mod command;
pub(crate) mod dead;
pub(crate) mod event;
mod finish;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod lossy;
pub(crate) mod metrics;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod script;
pub(crate) mod simulator;
pub(crate) mod stub;
pub(crate) mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use serde_json::Value;
use tempfile::TempDir;

use broker::{Broker, Inbox, Message};
use builder::Builder;
use command::text;
use event::Event;
use metrics::Metrics;
use process::Lines;
use simulator::Simulator;
use stub::Stub;
use worker::{Settings, Worker};

/// How long the rig waits for what must come; long, since a busy machine is no failure.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(90);
/// The developer key, recognisable where it leaks.
pub(crate) const DEVELOPER_KEY: &str = "planted-developer-key-becbbce45f79c6f5";
/// The access key, recognisable where it leaks.
pub(crate) const ACCESS_KEY: &str = "planted-access-key-d2fe1d99c9d8";
/// The operator's own number, which is masked wherever it shows.
pub(crate) const INITIATOR: &str = "9962981729";
/// The user code of the settings.
pub(crate) const USER_CODE: &str = "20810200";
/// The command queues: one for each kind.
pub(crate) const COMMAND_QUEUES: [&str; 3] = ["refund_otp", "refund", "transfer_otp"];

/// Waits until `check` finds something; panics when it does not in [`WAIT_TIMEOUT`].
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(begin.elapsed() < WAIT_TIMEOUT, "waited {WAIT_TIMEOUT:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

/// Who plays Eko.
enum Eko {
    Simulator(Simulator),
    Stub(Stub),
}

/// One test's world.
pub(crate) struct Rig {
    /// The rig's side of the broker.
    pub(crate) broker: Broker,
    /// The worker's settings.
    pub(crate) settings: Settings,
    events: Inbox,
    eko: Eko,
    worker: Option<Worker>,
    logs: Vec<Lines>,
    seen: BTreeMap<String, Vec<u8>>,
    ends: BTreeMap<String, String>,
    planted: Vec<String>,
    repeats_allowed: bool,
    bad_requests_allowed: bool,
    dir: TempDir,
}

impl Rig {
    /// A rig with the simulator, and settings that make waits short.
    pub(crate) fn builder() -> Builder {
        Builder {
            settings: Settings::new(),
            broker: None,
            stub: false,
            binding: "#".to_owned(),
            repeats_allowed: false,
            stamp_tolerance: simulator::TOLERANCE,
        }
    }

    /// The usual rig, started.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    /// The simulator.
    pub(crate) fn simulator(&mut self) -> &mut Simulator {
        match &mut self.eko {
            Eko::Simulator(simulator) => simulator,
            Eko::Stub(_) => panic!("this rig has a stub"),
        }
    }

    /// The scripted Eko.
    pub(crate) fn stub(&self) -> &Stub {
        match &self.eko {
            Eko::Stub(stub) => stub,
            Eko::Simulator(_) => panic!("this rig has the simulator"),
        }
    }

    /// The worker.
    pub(crate) fn worker(&mut self) -> &mut Worker {
        self.worker.as_mut().expect("a worker was started")
    }

    /// Where the test itself made requests go wrong.
    pub(crate) fn forgive_bad_requests(&mut self) {
        self.bad_requests_allowed = true;
    }

    /// A path in the directory of this test.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A value that must never be seen outside of the signed call.
    pub(crate) fn plant(&mut self, secret: &str) {
        self.planted.push(secret.to_owned());
    }

    /// Starts the worker without waiting for anything.
    pub(crate) fn spawn_worker(&mut self) {
        self.spawn_worker_in(&[]);
    }

    /// Starts the worker by a command that runs what follows it, without waiting for anything.
    pub(crate) fn spawn_worker_in(&mut self, wrapper: &[String]) {
        let worker = Worker::run_in(wrapper, &self.settings);
        self.logs.extend([worker.process.stdout.clone(), worker.process.stderr.clone()]);
        self.worker = Some(worker);
    }

    /// Starts one more worker, with settings of its own, which is the test's to stop.
    pub(crate) fn spawn_beside(&mut self, settings: &Settings) -> Worker {
        let worker = Worker::run(settings);
        self.logs.extend([worker.process.stdout.clone(), worker.process.stderr.clone()]);
        worker
    }

    /// Forgets what events said so far: a ledger that did not tell them may tell them otherwise.
    pub(crate) fn forget_events(&mut self) {
        self.seen.clear();
    }

    /// Starts the worker and waits until it consumes.
    pub(crate) async fn start_worker(&mut self) {
        self.spawn_worker();
        self.worker().ready().await;
    }

    /// Ends the worker as a power cut would; from here on events may come twice.
    pub(crate) fn kill9(&mut self) {
        self.worker.take().unwrap().process.kill9();
        self.repeats_allowed = true;
    }

    /// Stops the worker in good order, and sees that it says so.
    pub(crate) async fn stop_worker(&mut self) {
        self.worker().process.terminate();
        self.end_of_worker().await;
    }

    /// Waits until the worker, told to stop, ends well.
    pub(crate) async fn end_of_worker(&mut self) {
        let mut worker = self.worker.take().unwrap();
        let code = worker.process.exit_code().await;
        assert_eq!(code, 0, "a clean shutdown exits with 0:\n{}", worker.log());
    }

    /// All that its workers wrote.
    pub(crate) fn log(&self) -> String {
        self.logs.iter().map(Lines::text).collect::<Vec<_>>().join("\n")
    }

    /// Publishes a command where its type says.
    pub(crate) async fn publish(&self, command: &Value) {
        let properties = BasicProperties::default().with_content_type("application/json".into());
        self.publish_with(command, properties).await;
    }

    /// Publishes a command with these AMQP properties.
    pub(crate) async fn publish_with(&self, command: &Value, properties: BasicProperties) {
        let key = text(command, "/type");
        self.broker.command(key, command.to_string().into_bytes(), properties).await;
    }

    /// Publishes bytes to the refund queue, whatever they are.
    pub(crate) async fn publish_raw(&self, body: &[u8]) {
        let properties = BasicProperties::default();
        self.broker.command("eko.refund.request", body.to_vec(), properties).await;
    }

    /// Publishes many commands at once.
    pub(crate) async fn publish_all(&self, commands: &[Value]) {
        let message = |command: &Value| {
            let body = command.to_string().into_bytes();
            (text(command, "/type").to_owned(), body, BasicProperties::default())
        };
        let exchange = self.broker.name("commands");
        self.broker.publish_all(&exchange, commands.iter().map(message).collect()).await;
    }

    /// The next event, whatever it tells.
    pub(crate) async fn next_event(&mut self) -> Event {
        let message = self.events.next("the next event").await;
        self.note(message)
    }

    /// Publishes a command and gives the event that answers it.
    pub(crate) async fn outcome_of(&mut self, command: &Value) -> Event {
        self.publish(command).await;
        let event = self.next_event().await;
        assert_eq!(event.command_id(), text(command, "/id"), "another command was answered");
        event
    }

    /// One event for each of these command ids, in any order; repeats are passed over.
    pub(crate) async fn events_of<'a>(
        &mut self,
        ids: impl IntoIterator<Item = &'a str>,
    ) -> BTreeMap<String, Event> {
        let mut awaited: BTreeSet<_> = ids.into_iter().collect();
        let mut events = BTreeMap::new();
        while !awaited.is_empty() {
            let message = self.events.next(&format!("events of {awaited:?}")).await;
            let known = self.seen.len();
            let event = self.note(message);
            let is_repeat = self.seen.len() == known;
            let id = event.command_id().to_owned();
            let may_come = is_repeat && self.repeats_allowed;
            assert!(awaited.remove(id.as_str()) || may_come, "not awaited: {}", event.body);
            events.insert(id, event);
        }
        events
    }

    /// Keeps what an event says, against those that come later (invariant 4).
    fn note(&mut self, message: Message) -> Event {
        let event = Event::read(message);
        let first =
            self.seen.entry(event.id().to_owned()).or_insert_with(|| event.message.body.clone());
        let (first, again) =
            (String::from_utf8_lossy(first), String::from_utf8_lossy(&event.message.body));
        assert_eq!(first, again, "the same event id with another body");
        if event.outcome() != "invalid" {
            let command = event.command_id().to_owned();
            let end = self.ends.entry(command).or_insert_with(|| event.id().to_owned());
            assert_eq!(end, event.id(), "one command ended in two ways");
        }
        for secret in &self.planted {
            let shown = format!("{again} {:?}", event.message.properties);
            assert!(!shown.contains(secret), "{secret} shows in an event: {shown}");
        }
        event
    }

    /// The next dead letter, checked against the event that it belongs to.
    pub(crate) async fn dead_letter(&self, event: &Event) -> Message {
        let dead = self.any_dead_letter().await;
        assert_eq!(dead.routing_key, event.text("/type"));
        assert_eq!(dead.header("eko-outcome").as_deref(), Some(event.outcome()));
        assert_eq!(dead.header("eko-code").as_deref(), Some(event.code()));
        assert_eq!(dead.header("eko-event-id").as_deref(), Some(event.id()));
        dead
    }

    /// The next dead letter, whatever it belongs to.
    pub(crate) async fn any_dead_letter(&self) -> Message {
        let there = async || self.broker.get("dead").await;
        let dead = eventually("a dead letter is there", there).await;
        let headers = format!("{:?}", dead.properties.headers());
        let leak = self.planted.iter().find(|secret| headers.contains(*secret));
        assert_eq!(leak, None, "a secret in the headers of a dead letter: {headers}");
        dead
    }

    /// The worker's metrics once it has nothing in its hands: an event is out before it is counted.
    pub(crate) async fn metrics(&mut self) -> Metrics {
        let worker = self.worker();
        let idle = async || {
            let metrics = worker.metrics().await;
            (metrics.value("in_flight", &[]) == 0.0).then_some(metrics)
        };
        eventually("the worker has nothing in its hands", idle).await
    }

    /// Waits until `what` holds of the metrics.
    pub(crate) async fn until_metrics(&mut self, what: &str, holds: impl Fn(&Metrics) -> bool) {
        let worker = self.worker();
        let check = async || holds(&worker.metrics().await).then_some(());
        eventually(what, check).await;
    }

    /// Waits until `what` holds of the simulator's state.
    pub(crate) async fn until_state(&mut self, what: &str, holds: impl Fn(&Value) -> bool) {
        let simulator = self.simulator();
        eventually(what, async || holds(&simulator.state().await).then_some(())).await;
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in &self.logs {
                eprintln!("--- the worker's output ---\n{}", log.text());
            }
        }
    }
}
