//! The end of a test: nothing may be left over, leaked or unread.

use super::event::Event;
use super::{COMMAND_QUEUES, Eko, Rig, eventually};

/// The delays of the worker's retry queues, in milliseconds: part of their names.
const RETRY_LEVELS: [u32; 13] = [
    250, 500, 1_000, 2_000, 5_000, 10_000, 25_000, 60_000, 150_000, 300_000, 900_000, 1_800_000,
    3_600_000,
];

/// How long what was refused waits, in milliseconds.
const REFUSED_LEVELS: [u32; 3] = [10_000, 120_000, 1_800_000];

impl Rig {
    /// Stops the worker, and fails when an event or a dead letter was not read, a queue is not
    /// empty, Eko got a bad request, or a planted secret shows anywhere.
    pub(crate) async fn finish(mut self) {
        let metrics = match &mut self.worker {
            Some(worker) => worker.metrics().await.text,
            None => String::new(),
        };
        if self.worker.is_some() {
            self.stop_worker().await;
        }
        self.check_unread().await;
        self.check_eko().await;
        self.check_secrets("the metrics", metrics.as_bytes());
        for log in &self.logs {
            for line in log.all() {
                self.check_secrets("a log line", line.as_bytes());
            }
        }
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("ledger") {
                self.check_secrets("the ledger", &std::fs::read(path).unwrap());
            }
        }
        self.broker.remove(&Self::queues()).await;
    }

    /// Every queue that a worker declares.
    pub(crate) fn queues() -> Vec<String> {
        let own = ["dead", "unrouted", "ledger"].map(str::to_owned).into_iter();
        own.chain(Self::work_queues()).collect()
    }

    /// The queues in which commands come and wait: empty once all have ended.
    pub(crate) fn work_queues() -> impl Iterator<Item = String> {
        COMMAND_QUEUES.into_iter().flat_map(|kind| {
            let retry = RETRY_LEVELS.map(|level| format!("retry.{kind}.{level}ms"));
            let refused = REFUSED_LEVELS.map(|level| format!("refused.{kind}.{level}ms"));
            [kind.to_owned()].into_iter().chain(retry).chain(refused)
        })
    }

    async fn check_unread(&mut self) {
        for message in self.broker.drain(&mut self.events).await {
            let event = Event::read(message);
            let repeats = self.seen.get(event.id()).is_some_and(|body| *body == event.message.body);
            assert!(repeats && self.repeats_allowed, "an event that nobody read: {}", event.body);
        }
        if let Some(dead) = self.broker.get("dead").await {
            let id = dead.header("eko-event-id").unwrap_or_default();
            let read = self.repeats_allowed && self.seen.contains_key(&id);
            assert!(read, "a dead letter that nobody read: {dead:?}");
        }
        if let Some(unrouted) = self.broker.get("unrouted").await {
            panic!("an event that nobody bound: {unrouted:?}");
        }
        for queue in Self::work_queues() {
            // A quorum queue counts a moment behind the acks.
            let empty = async || (self.broker.count(&queue).await == Some(0)).then_some(());
            eventually(&format!("queue {queue} is there and empty"), empty).await;
        }
    }

    async fn check_eko(&self) {
        match &self.eko {
            Eko::Simulator(simulator) => {
                let state = simulator.state().await;
                let bad = state["bad_requests"].as_array().unwrap();
                assert!(bad.is_empty() || self.bad_requests_allowed, "{bad:#?}");
                let executions = state["executions"].as_object().unwrap();
                let twice: Vec<_> =
                    executions.iter().filter(|(_, n)| n.as_u64() > Some(1)).collect();
                assert!(twice.is_empty(), "executed twice (invariant 1): {twice:?}");
            }
            Eko::Stub(stub) => {
                let unexpected = stub.unexpected();
                assert!(unexpected.is_empty(), "requests that no script named: {unexpected:#?}");
            }
        }
    }

    fn check_secrets(&self, place: &str, bytes: &[u8]) {
        for secret in &self.planted {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} shows in {place}: {}", String::from_utf8_lossy(bytes));
        }
    }
}
