//! A worker under load: its process, and what it takes of the machine.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// Linux tells times in hundredths of a second, on every machine.
const TICKS_A_SECOND: f64 = 100.0;

/// How to start a worker.
pub(crate) struct Start<'a> {
    pub(crate) program: &'a PathBuf,
    /// None: the naive one, which has neither ledger nor subcommands.
    pub(crate) ledger_url: Option<&'a str>,
    pub(crate) amqp_url: &'a str,
    pub(crate) prefix: &'a str,
    pub(crate) eko_url: &'a str,
    pub(crate) in_flight: u16,
    /// Its log goes here.
    pub(crate) log: &'a PathBuf,
}

/// A process that is gone when this is.
pub(crate) struct Worker {
    child: Child,
}

impl Worker {
    pub(crate) fn start(start: &Start<'_>) -> anyhow::Result<Self> {
        let mut command = Command::new(start.program);
        if let Some(ledger_url) = start.ledger_url {
            command.arg("run").env("LEDGER_URL", ledger_url).env("ADMIN_ADDR", "127.0.0.1:0");
        }
        let child = command
            .env("AMQP_URL", start.amqp_url)
            .env("AMQP_PREFIX", start.prefix)
            .env("EKO_BASE_URL", start.eko_url)
            .env("EKO_DEVELOPER_KEY", "bench")
            .env("EKO_ACCESS_KEY", "bench")
            .env("EKO_INITIATOR_ID", "9962981729")
            .env("EKO_USER_CODE", "20810200")
            .env("WORKER_CONCURRENCY", start.in_flight.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(start.log)?)
            .spawn()
            .with_context(|| format!("cannot start {}", start.program.display()))?;
        Ok(Self { child })
    }

    /// CPU seconds of all its threads so far.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may hold anything.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: Result<Vec<f64>, _> = fields.skip(11).take(2).map(str::parse).collect();
        Ok(ticks?.iter().sum::<f64>() / TICKS_A_SECOND)
    }

    /// Its resident set at its highest, in MiB.
    pub(crate) fn peak_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
        Ok(kib.parse::<f64>()? / 1024.0)
    }

    /// Stops it as an operator would, and waits for that.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.child.id().to_string()).status()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // One that was stopped is no more.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
