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
    async fn address(&mut self) -> String {
        eventually("the worker logs where its admin server listens", async || {
            assert!(self.process.is_running(), "the worker ended:\n{}", self.log());
            self.process.stderr.find(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                let fields = line.get("fields").unwrap_or(&line);
                let said = fields.get("message")?.as_str()?;
                (said == "admin server listening")
                    .then(|| fields["addr"].as_str())?
                    .map(str::to_owned)
            })
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
