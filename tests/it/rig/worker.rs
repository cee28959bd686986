//! The worker under test, as a child process.

use std::collections::BTreeMap;

use serde_json::Value;

use super::metrics::Metrics;
use super::process::Process;
use super::{eventually, http};

/// Settings by name.
pub(crate) type Settings = BTreeMap<String, String>;

/// One worker process.
pub(crate) struct Worker {
    /// The process itself.
    pub(crate) process: Process,
}

impl Worker {
    /// Starts `eko-worker run`.
    pub(crate) fn run(settings: &Settings) -> Self {
        Self::run_in(&[], settings)
    }

    /// Starts it by a command that runs what follows it.
    pub(crate) fn run_in(wrapper: &[String], settings: &Settings) -> Self {
        let words = wrapper.iter().map(String::as_str);
        let mut words = words.chain([env!("CARGO_BIN_EXE_eko-worker"), "run"]);
        let program = words.next().unwrap();
        Self { process: Process::spawn(program, &words.collect::<Vec<_>>(), settings) }
    }

    /// Runs `eko-worker` with these arguments to its end: exit code, standard output, standard error.
    pub(crate) async fn output(arguments: &[&str], settings: &Settings) -> (i32, String, String) {
        let program = env!("CARGO_BIN_EXE_eko-worker");
        let mut process = Process::spawn(program, arguments, settings);
        let code = process.exit_code().await;
        (code, process.stdout.text(), process.stderr.text())
    }

    /// The address that its admin server says it listens on.
    pub(crate) async fn address(&mut self) -> String {
        eventually("the worker logs where its admin server listens", async || {
            assert!(self.process.is_running(), "the worker ended:\n{}", self.log());
            self.process.stderr.find(said_address)
        })
        .await
    }

    /// Asks its admin server: HTTP status and body.
    pub(crate) async fn get(&mut self, path: &str) -> (u16, String) {
        let address = self.address().await;
        http::get(&format!("http://{address}{path}")).await
    }

    /// Waits until it consumes.
    pub(crate) async fn ready(&mut self) {
        let mut said = String::new();
        eventually("the worker is ready", async || {
            let (status, body) = self.get("/readyz").await;
            said = body;
            (status == 200).then_some(())
        })
        .await;
    }

    /// Waits until it consumes, or ends by itself: then with which code.
    pub(crate) async fn ready_or_ended(&mut self) -> Option<i32> {
        let is_ended = eventually("the worker consumes or ends", async || {
            if !self.process.is_running() {
                return Some(true);
            }
            let address = self.process.stderr.find(said_address)?;
            let (status, _) = http::get(&format!("http://{address}/readyz")).await;
            (status == 200).then_some(false)
        });
        if is_ended.await { Some(self.process.exit_code().await) } else { None }
    }

    /// Its metrics now.
    pub(crate) async fn metrics(&mut self) -> Metrics {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200, "{text}");
        Metrics::parse(text)
    }

    /// All that it wrote.
    pub(crate) fn log(&self) -> String {
        format!("{}\n{}", self.process.stdout.text(), self.process.stderr.text())
    }
}

/// The address in the log line that tells where the admin server listens.
fn said_address(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields").unwrap_or(&line);
    let said = fields.get("message")?.as_str()?;
    (said == "admin server listening").then(|| fields["addr"].as_str())?.map(str::to_owned)
}
