//! Broker, Eko and workers under a load, and what is left when all is told.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use tempfile::TempDir;

use super::evidence::{Evidence, Violation};
use super::orders::{Order, Orders};
use super::store::Store;
use crate::rig::broker::Broker;
use crate::rig::process::Lines;
use crate::rig::simulator::Simulator;
use crate::rig::worker::{Settings, Worker};
use crate::rig::{ACCESS_KEY, DEVELOPER_KEY, INITIATOR, Rig, USER_CODE, eventually, stub};

/// The queue that keeps every event until the end.
pub(crate) const EVENTS: &str = "all-events";
/// Without any new event for this long, what is missing is lost: longer than every wait that
/// the settings allow, a lease and `SETTLE_GIVE_UP` included. A broker that is killed while a copy is on
/// its way back puts it into its queue again after 180 s
/// (`dead_letter_worker_publisher_confirm_timeout`).
const SILENCE: Duration = Duration::from_secs(220);

/// What a world is made of.
pub(crate) struct Setup {
    /// The beginning of its prefix.
    pub(crate) name: &'static str,
    /// The nodes of the broker as the test reaches them; none: the tests' own RabbitMQ.
    pub(crate) nodes: Vec<String>,
    /// How many workers.
    pub(crate) workers: usize,
    /// Their ledger.
    pub(crate) store: Store,
    /// Eko.
    pub(crate) simulator: Simulator,
    /// Settings that differ from the usual ones.
    pub(crate) settings: Settings,
    /// A command that runs the worker, given program and arguments; empty: nothing does.
    pub(crate) wrapper: Vec<String>,
}

impl Setup {
    /// One worker with an SQLite ledger on the tests' RabbitMQ.
    pub(crate) async fn usual(name: &'static str) -> Self {
        Self {
            name,
            nodes: Vec::new(),
            workers: 1,
            store: Store::Sqlite,
            simulator: Simulator::start().await,
            settings: Settings::new(),
            wrapper: Vec::new(),
        }
    }

    /// With this setting of the worker; without it where it is empty.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With this time for an answer, for a timestamp to expire, and for the quiet after that.
    pub(crate) fn over_after(self, time: &str) -> Self {
        let names = ["EKO_TIMEOUT", "EKO_STAMP_TOLERANCE", "SETTLE_QUIET"];
        names.into_iter().fold(self, |setup, name| setup.set(name, time))
    }
}

/// How much of a worker's log is shown where a test fails outside of the account.
const LAST_LINES: usize = 60;

/// What each worker wrote.
pub(crate) struct Logs(pub(crate) Vec<Lines>);

impl Drop for Logs {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (n, log) in self.0.iter().enumerate() {
            let lines = log.all();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            eprintln!("--- the last of worker {n} ---\n{}", last.join("\n"));
        }
    }
}

/// All that runs.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) settings: Settings,
    /// What each worker wrote, in order of their starts.
    pub(crate) logs: Logs,
    /// The workers.
    pub(crate) workers: Vec<Worker>,
    /// The test's own way to the broker.
    pub(crate) broker: Broker,
    nodes: Vec<String>,
    store: Store,
    prefix: String,
    wrapper: Vec<String>,
    dir: TempDir,
}

impl World {
    /// Starts everything, and waits until the workers have declared their queues.
    pub(crate) async fn start(setup: Setup) -> Self {
        let mut world = Self::start_without_workers(setup.workers, setup).await;
        world.until_declared().await;
        world
    }

    /// Starts everything, and `workers` workers, but waits for nothing.
    pub(crate) async fn start_without_workers(workers: usize, setup: Setup) -> Self {
        let dir = tempfile::Builder::new().prefix(setup.name).tempdir().unwrap();
        let prefix = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let nodes = if setup.nodes.is_empty() { vec![Broker::url()] } else { setup.nodes };
        let broker = Broker::connect_to(&nodes[0], &prefix).await;
        broker.keep_all_of("events", EVENTS).await;
        let store = setup.store;
        let mut settings =
            settings(&nodes.join(","), &prefix, setup.simulator.url(), store.url(dir.path()));
        settings.insert("SETTLE_GIVE_UP".to_owned(), store.settle_give_up().to_owned());
        settings.extend(setup.settings);
        settings.retain(|_, value| !value.is_empty());
        let mut world = Self {
            settings,
            simulator: setup.simulator,
            logs: Logs(Vec::new()),
            workers: Vec::new(),
            broker,
            nodes,
            store,
            prefix,
            wrapper: setup.wrapper,
            dir,
        };
        (0..workers).for_each(|_| world.add_worker());
        world
    }

    /// Waits until the workers have declared their queues.
    pub(crate) async fn until_declared(&mut self) {
        for queue in Rig::queues() {
            let declared = async || self.broker.count(&queue).await;
            eventually(&format!("the worker declares {queue}"), declared).await;
        }
    }

    /// One more worker.
    pub(crate) fn add_worker(&mut self) {
        let worker = self.new_worker();
        self.workers.push(worker);
    }

    fn new_worker(&mut self) -> Worker {
        let worker = Worker::run_in(&self.wrapper, &self.settings);
        self.logs.0.push(worker.process.stderr.clone());
        worker
    }

    /// Ends a worker as a power cut would, and starts another in its place.
    pub(crate) fn replace_worker(&mut self, hit: usize) {
        self.workers[hit].process.kill9();
        self.workers[hit] = self.new_worker();
    }

    /// Reaches the broker anew.
    pub(crate) async fn reconnect(&mut self) {
        let nodes = &self.nodes;
        let prefix = &self.prefix;
        let connected = async || Broker::try_connect(nodes, prefix).await.ok();
        self.broker = eventually("the broker takes a connection", connected).await;
    }

    /// The name of its exchanges and queues, and the nodes that have them.
    pub(crate) fn address(&self) -> (String, Vec<String>) {
        (self.prefix.clone(), self.nodes.clone())
    }

    /// Publishes messages, each confirmed.
    pub(crate) async fn publish(&self, orders: Vec<Order>) {
        self.publish_with(orders, BasicProperties::default()).await;
    }

    /// As [`Self::publish`], with properties.
    pub(crate) async fn publish_with(&self, orders: Vec<Order>, properties: BasicProperties) {
        let exchange = self.broker.name("commands");
        let properties = properties.with_delivery_mode(2);
        let message = |(key, body)| (key, body, properties.clone());
        self.broker.publish_all(&exchange, orders.into_iter().map(message).collect()).await;
    }

    /// How many events there are so far, repeats included.
    pub(crate) async fn told(&self) -> usize {
        self.broker.count(EVENTS).await.expect("the queue of events is there") as usize
    }

    /// Waits until there are that many events, but not for long.
    pub(crate) async fn until_told(&self, goal: usize, patience: Duration) {
        let begin = Instant::now();
        while self.told().await < goal && begin.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Reads events until each command has one; tells which have none.
    pub(crate) async fn until_all_told(
        &mut self,
        orders: &Orders,
        evidence: &mut Evidence,
    ) -> Vec<Violation> {
        let mut news = Instant::now();
        loop {
            if self.read_events(evidence).await > 0 {
                news = Instant::now();
            }
            let missing = evidence.missing(orders);
            if missing.is_empty() || news.elapsed() > SILENCE {
                return missing;
            }
            self.check_workers();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A worker that ends by itself has met something that no blow of ours explains.
    fn check_workers(&mut self) {
        for worker in &mut self.workers {
            let running = worker.process.is_running();
            assert!(running, "a worker ended by itself:\n{}", worker.log());
        }
    }

    async fn read_events(&self, evidence: &mut Evidence) -> usize {
        let mut read = 0;
        while let Some(message) = self.broker.get(EVENTS).await {
            evidence.add_event(message);
            read += 1;
        }
        read
    }

    /// Waits until nothing is left to do, stops the workers in good order, and reads all that
    /// is left in any queue.
    pub(crate) async fn stop(&mut self, evidence: &mut Evidence) -> Vec<Violation> {
        let begin = Instant::now();
        while !self.left_over().await.is_empty() && begin.elapsed() < SILENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for mut worker in self.workers.drain(..) {
            worker.process.terminate();
            let code = worker.process.exit_code().await;
            assert_eq!(code, 0, "a clean shutdown exits with 0:\n{}", worker.log());
        }
        self.read_events(evidence).await;
        while let Some(dead) = self.broker.get("dead").await {
            evidence.dead.push(dead);
        }
        let mut violations = self.left_over().await;
        if let Some(unrouted) = self.broker.get("unrouted").await {
            violations.push(Violation::new("", format!("an event went nowhere: {unrouted:?}")));
        }
        violations.extend(self.leaks().await);
        violations
    }

    /// Queues that are not empty.
    async fn left_over(&self) -> Vec<Violation> {
        let mut left = Vec::new();
        for queue in Rig::work_queues() {
            match self.broker.count(&queue).await {
                Some(0) => {}
                count => left.push(Violation::new("", format!("queue {queue} holds {count:?}"))),
            }
        }
        left
    }

    /// Secrets in logs or in a ledger's files.
    async fn leaks(&self) -> Vec<Violation> {
        use crate::rig::command::{CUSTOMER, OTP, OTP_REF};
        let mut leaks = Vec::new();
        let mut look = |place: &str, bytes: &[u8], secrets: &[&str]| {
            for secret in secrets {
                if bytes.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                    leaks.push(Violation::new("", format!("{secret} shows in {place}")));
                }
            }
        };
        let secrets = [OTP, CUSTOMER, DEVELOPER_KEY, ACCESS_KEY, INITIATOR];
        for line in self.logs.0.iter().flat_map(Lines::all) {
            look(&format!("a log line: {line}"), line.as_bytes(), &secrets);
            look(&format!("a log line: {line}"), line.as_bytes(), &[OTP_REF]);
        }
        look("the ledger", &self.store.dump().await, &secrets);
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("ledger") {
                look("the ledger", &std::fs::read(path).unwrap(), &secrets);
            }
        }
        leaks
    }

    /// Takes away what a run leaves in servers that are not its own.
    pub(crate) async fn remove(self) {
        self.store.remove().await;
        let mut queues = Rig::queues();
        queues.push(EVENTS.to_owned());
        self.broker.remove(&queues).await;
    }

    /// Keeps the files and the logs of a run that failed; tells where.
    pub(crate) fn keep_files(self) -> PathBuf {
        for (n, log) in self.logs.0.iter().enumerate() {
            std::fs::write(self.dir.path().join(format!("worker-{n:02}.log")), log.text()).unwrap();
        }
        self.dir.keep()
    }
}

fn settings(broker: &str, prefix: &str, eko: &str, ledger: String) -> Settings {
    [
        ("AMQP_URL", broker.to_owned()),
        ("AMQP_PREFIX", prefix.to_owned()),
        ("EKO_BASE_URL", format!("{eko}{}", stub::BASE)),
        ("EKO_DEVELOPER_KEY", DEVELOPER_KEY.to_owned()),
        ("EKO_ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("EKO_INITIATOR_ID", INITIATOR.to_owned()),
        ("EKO_USER_CODE", USER_CODE.to_owned()),
        ("EKO_TIMEOUT", "1s".to_owned()),
        ("EKO_STAMP_TOLERANCE", "1s".to_owned()),
        ("WORKER_CONCURRENCY", "16".to_owned()),
        ("RETRY_INITIAL", "250ms".to_owned()),
        ("RETRY_MAX", "4s".to_owned()),
        ("RETRY_GIVE_UP_OTP", "10m".to_owned()),
        ("OTP_RESEND_SPACING", "500ms".to_owned()),
        ("SETTLE_POLL", "250ms".to_owned()),
        ("SETTLE_QUIET", "1s".to_owned()),
        ("LEDGER_URL", ledger),
        ("ADMIN_ADDR", "127.0.0.1:0".to_owned()),
        ("LOG_FORMAT", "json".to_owned()),
        ("RUST_LOG", "info,eko=debug".to_owned()),
        ("SHUTDOWN_GRACE", "10s".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
