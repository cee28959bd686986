//! The simulator, as a child process with its control endpoints.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::process::Process;
use super::worker::Settings;
use super::{ACCESS_KEY, DEVELOPER_KEY, eventually, http};

/// How old a timestamp Eko accepts, by its documents.
pub(super) const TOLERANCE: &str = "120s";

/// What the simulator's program is built from.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/eko-simulator/src");

/// The simulator's program. Cargo names the programs of this package alone, and puts those of all beside each other.
fn program() -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_eko-worker")).with_file_name("eko-simulator");
    let name = program.to_str().unwrap().to_owned();
    let Some(built) = changed(&name) else { panic!("{name} is missing: run `cargo build` first") };
    for source in fs::read_dir(SOURCES).unwrap() {
        let source = source.unwrap().path();
        let is_newer = changed(source.to_str().unwrap()) > Some(built);
        assert!(!is_newer, "{name} is older than {source:?}: run `cargo build` first");
    }
    name
}

/// When a file was changed last; `None` where there is none.
fn changed(path: &str) -> Option<SystemTime> {
    fs::metadata(path).and_then(|file| file.modified()).ok()
}

/// One simulator process.
pub(crate) struct Simulator {
    process: Option<Process>,
    url: String,
    stamp_tolerance: &'static str,
}

impl Simulator {
    /// Starts one on a free port.
    pub(crate) async fn start() -> Self {
        Self::start_tolerating(TOLERANCE).await
    }

    /// Starts one that refuses older timestamps.
    pub(super) async fn start_tolerating(stamp_tolerance: &'static str) -> Self {
        let mut simulator = Self { process: None, url: String::new(), stamp_tolerance };
        simulator.listen("127.0.0.1:0").await;
        simulator
    }

    /// Where it listens, without a path.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Stops it, so that connections are refused.
    pub(crate) fn stop(&mut self) {
        self.process.take().unwrap().kill9();
    }

    /// Starts it again where it was, its memory empty.
    pub(crate) async fn start_again(&mut self) {
        let address = self.url.strip_prefix("http://").unwrap().to_owned();
        self.listen(&address).await;
    }

    async fn listen(&mut self, address: &str) {
        let arguments = [
            "--listen",
            address,
            "--developer-key",
            DEVELOPER_KEY,
            "--access-key",
            ACCESS_KEY,
            "--stamp-tolerance",
            self.stamp_tolerance,
        ];
        let mut process = Process::spawn(&program(), &arguments, &Settings::new());
        let url = eventually("the simulator listens", async || {
            let said = process.stderr.text();
            assert!(process.is_running(), "the simulator ended: {said}");
            process.stdout.find(|line| line.strip_prefix("listening on ").map(str::to_owned))
        });
        self.url = url.await;
        self.process = Some(process);
        // A second refund of a tid must be executed and counted, or no test could see it.
        self.control("careless", &json!({ "careless": true })).await;
    }

    /// Misbehaves `times` times at `endpoint` of this tid.
    pub(crate) async fn fault(&self, tid: &str, endpoint: &str, fault: &str, times: u32) {
        let body = json!({ "tid": tid, "endpoint": endpoint, "fault": fault, "times": times });
        self.control("fault", &body).await;
    }

    /// As [`Self::fault`], once, with an effect that comes this much later.
    pub(crate) async fn late_fault(&self, tid: &str, fault: &str, after: Duration) {
        let order = json!({
            "tid": tid, "endpoint": "refund", "fault": fault, "times": 1,
            "after_ms": u64::try_from(after.as_millis()).unwrap(),
        });
        self.control("fault", &order).await;
    }

    /// Sets the state of a transaction.
    pub(crate) async fn transaction(&self, tid: &str, tx_status: u8) {
        self.control("transaction", &json!({ "tid": tid, "tx_status": tx_status })).await;
    }

    /// Answers this much later from now on.
    pub(crate) async fn latency(&self, milliseconds: u32) {
        self.control("latency", &json!({ "ms": milliseconds })).await;
    }

    /// Posts to a control endpoint.
    pub(crate) async fn control(&self, what: &str, body: &Value) {
        http::post(&format!("{}/control/{what}", self.url), body).await;
    }

    /// Misbehaves in this way, and no other, at every call.
    pub(crate) async fn fail_all(&self, order: &Value) {
        self.behave().await;
        for endpoint in ["refund", "refund_otp", "transfer_otp", "inquiry"] {
            let mut order = order.clone();
            order["endpoint"] = json!(endpoint);
            self.control("fault", &order).await;
        }
    }

    /// Stops answering, or goes on, without losing its memory.
    pub(crate) fn freeze(&self, is_frozen: bool) {
        let process = self.process.as_ref().unwrap();
        process.signal(if is_frozen { "STOP" } else { "CONT" });
    }

    /// Forgets all faults that were ordered.
    pub(crate) async fn behave(&self) {
        http::delete(&format!("{}/control/faults", self.url)).await;
    }

    /// All that it knows of one tid or recipient.
    pub(crate) async fn record(&self, key: &str) -> String {
        http::get(&format!("{}/state/{key}", self.url)).await.1
    }

    /// What it has seen and done.
    pub(crate) async fn state(&self) -> Value {
        let (status, body) = http::get(&format!("{}/state", self.url)).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// How often it refunded this tid.
    pub(crate) async fn executions(&self, tid: &str) -> u64 {
        self.state().await["executions"][tid].as_u64().unwrap_or(0)
    }

    /// How often this endpoint was called.
    pub(crate) async fn calls(&self, endpoint: &str) -> u64 {
        self.state().await["calls"][endpoint].as_u64().unwrap_or(0)
    }
}
