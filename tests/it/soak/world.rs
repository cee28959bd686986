//! Broker, Eko and workers of a soak, and what is done to them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lapin::BasicProperties;
use tempfile::TempDir;

use super::chaos::Step;
use super::evidence::{Evidence, Violation};
use super::orders::{Order, Orders};
use super::store::Store;
use super::{Numbers, faults};
use crate::rig::broker::Broker;
use crate::rig::process::{Lines, Process};
use crate::rig::simulator::Simulator;
use crate::rig::worker::Settings;
use crate::rig::{ACCESS_KEY, DEVELOPER_KEY, INITIATOR, Rig, USER_CODE, eventually, stub};

/// The queue that keeps every event until the end.
const EVENTS: &str = "soak-events";
/// Without any new event for this long, what is missing is lost: longer than every wait that
/// the settings allow, a lease and `SETTLE_GIVE_UP` included.
const SILENCE: Duration = Duration::from_secs(100);

/// All that runs.
pub(super) struct World {
    pub(super) simulator: Simulator,
    pub(super) settings: Settings,
    /// What each worker wrote, in order of their starts.
    pub(super) logs: Vec<Lines>,
    broker: Broker,
    workers: Vec<Process>,
    node: Option<Node>,
    store: Store,
    prefix: String,
    rng: fastrand::Rng,
    dir: TempDir,
}

impl World {
    /// Starts everything, and waits until the workers have declared their queues.
    pub(super) async fn start(numbers: &Numbers, store: Store) -> Self {
        let dir = tempfile::Builder::new().prefix("soak-").tempdir().unwrap();
        let prefix = dir.path().file_name().unwrap().to_str().unwrap().to_owned();
        let node = (numbers.broker_kills > 0).then(|| Node::start(dir.path().join("broker")));
        let url = node.as_ref().map_or_else(Broker::url, |node| node.url.clone());
        let broker = Broker::connect_to(&url, &prefix).await;
        broker.keep_all_of("events", EVENTS).await;
        let simulator = Simulator::start().await;
        let mut settings = settings(&url, &prefix, simulator.url(), store.url(dir.path()));
        settings.insert("SETTLE_GIVE_UP".to_owned(), store.settle_give_up().to_owned());
        let mut world = Self {
            settings,
            simulator,
            logs: Vec::new(),
            broker,
            workers: Vec::new(),
            node,
            store,
            prefix,
            rng: fastrand::Rng::with_seed(numbers.seed.rotate_left(7)),
            dir,
        };
        for _ in 0..numbers.workers {
            let worker = world.new_worker();
            world.workers.push(worker);
        }
        for queue in Rig::queues() {
            let declared = async || world.broker.count(&queue).await;
            eventually(&format!("the worker declares {queue}"), declared).await;
        }
        world
    }

    fn new_worker(&mut self) -> Process {
        let worker = Process::spawn(env!("CARGO_BIN_EXE_eko-worker"), &["run"], &self.settings);
        self.logs.push(worker.stderr.clone());
        worker
    }

    /// Publishes messages, each confirmed.
    pub(super) async fn publish(&self, orders: Vec<Order>) {
        let exchange = self.broker.name("commands");
        let message = |(key, body)| (key, body, BasicProperties::default().with_delivery_mode(2));
        self.broker.publish_all(&exchange, orders.into_iter().map(message).collect()).await;
    }

    /// How many events there are so far, repeats included.
    pub(super) async fn told(&self) -> usize {
        self.broker.count(EVENTS).await.expect("the queue of events is there") as usize
    }

    /// Waits until there are that many events, but not for long.
    pub(super) async fn until_told(&self, goal: usize, patience: Duration) {
        let begin = Instant::now();
        while self.told().await < goal && begin.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Deals one blow, and starts again what it hit.
    pub(super) async fn suffer(&mut self, step: Step) {
        match step {
            Step::Worker => {
                let hit = self.rng.usize(..self.workers.len());
                self.workers[hit].kill9();
                self.workers[hit] = self.new_worker();
            }
            Step::Broker(down) => {
                let node = self.node.as_ref().expect("only a broker of its own is killed");
                node.run("kill9");
                tokio::time::sleep(Duration::from_millis(down)).await;
                node.run("start");
                self.broker = Broker::connect_to(&node.url, &self.prefix).await;
            }
            Step::Eko(way, down) => {
                faults::begin_outage(&self.simulator, way).await;
                tokio::time::sleep(Duration::from_millis(down)).await;
                faults::end_outage(&self.simulator).await;
            }
        }
    }

    /// Reads events until each command has one; tells which have none.
    pub(super) async fn until_all_told(
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
            assert!(worker.is_running(), "a worker ended by itself:\n{}", worker.stderr.text());
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
    pub(super) async fn stop(&mut self, evidence: &mut Evidence) -> Vec<Violation> {
        let begin = Instant::now();
        while !self.left_over().await.is_empty() && begin.elapsed() < SILENCE {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        for mut worker in self.workers.drain(..) {
            worker.terminate();
            let code = worker.exit_code().await;
            assert_eq!(code, 0, "a clean shutdown exits with 0:\n{}", worker.stderr.text());
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
        for line in self.logs.iter().flat_map(Lines::all) {
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
    pub(super) async fn remove(self) {
        self.store.remove().await;
        if self.node.is_none() {
            let mut queues = Rig::queues();
            queues.push(EVENTS.to_owned());
            self.broker.remove(&queues).await;
        }
    }

    /// Keeps the files and the logs of a run that failed; tells where.
    pub(super) fn keep_files(self) -> PathBuf {
        for (n, log) in self.logs.iter().enumerate() {
            std::fs::write(self.dir.path().join(format!("worker-{n:02}.log")), log.text()).unwrap();
        }
        drop(self.node);
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
        ("RUST_LOG", "info,eko_worker=debug".to_owned()),
        ("SHUTDOWN_GRACE", "10s".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// A RabbitMQ node of this run alone, so that it can be killed.
struct Node {
    dir: PathBuf,
    url: String,
}

impl Node {
    fn start(dir: PathBuf) -> Self {
        let mut node = Self { dir, url: String::new() };
        let said = node.run("start");
        let url = said.lines().find_map(|line| line.strip_prefix("AMQP_URL="));
        node.url = url.unwrap_or_else(|| panic!("no URL of the broker: {said}")).to_owned();
        node
    }

    /// Runs `scripts/private-broker` to its end; its output.
    fn run(&self, what: &str) -> String {
        let output = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-broker"))
            .arg(what)
            .arg(&self.dir)
            .env("RMQ_OWNER_PID", std::process::id().to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "a soak that kills the broker needs one of its own (EKO_SOAK_BROKER_KILLS=0 goes \
             without): scripts/private-broker {what} failed"
        );
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.run("wipe");
    }
}
