//! Workers side by side: all scenarios, round by round, each worker in turn.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use tempfile::TempDir;

use crate::eko::{Eko, Mood};
use crate::report::{median, percentile};
use crate::scenario::{Entry, Ledger, Mode, Scenario, Settings};
use crate::traffic::Traffic;
use crate::worker::{Start, Worker};

/// How much of the beginning of a steady load does not count: connections are made in it.
const WARMING_SECONDS: f64 = 1.0;

/// A broker that was just filled has some writing left to do.
const CALM: Duration = Duration::from_millis(500);

/// How often an empty ledger and a grown one are compared.
const PAIRS: usize = 5;

/// What part of all commands that is done with: a twentieth of a million calls is within the
/// minute that timestamps may run ahead of the clock.
const PORTION: usize = 20;

struct Bench {
    settings: Settings,
    amqp_url: String,
    traffic: Traffic,
    eko: Eko,
    /// Of the workers: ledgers and logs.
    directory: TempDir,
    postgres: Option<tokio_postgres::Client>,
}

/// A backlog that was worked off.
struct Ran {
    worker: Worker,
    /// When Eko got the first call, and when the events came, in order.
    first_call: Instant,
    seen: Vec<Instant>,
}

impl Ran {
    /// From the first call to the nth event, counted from 0.
    fn seconds(&self, nth: usize) -> f64 {
        self.seen[nth].duration_since(self.first_call).as_secs_f64()
    }

    /// Commands a second, CPU µs of each and the worker's resident set at its highest in MiB,
    /// who is stopped.
    fn end(self) -> anyhow::Result<[f64; 3]> {
        let count = self.seen.len();
        let rate = count as f64 / self.seconds(count - 1);
        let figures = [rate, micros(&self.worker, count)?, self.worker.peak_mib()?];
        self.worker.stop()?;
        Ok(figures)
    }
}

/// Measures, and prints the tables.
pub(crate) async fn run(
    settings: Settings,
    amqp_url: String,
    traffic: Traffic,
) -> anyhow::Result<()> {
    ensure!(std::path::Path::new("/proc/self/stat").exists(), "only Linux tells what is measured");
    ensure!(settings.commands.is_none_or(|count| count >= 1_000), "--commands 1000 or more");
    let postgres = match &settings.postgres_url {
        Some(url) => {
            let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            Some(client)
        }
        None => None,
    };
    let entries = settings.entries();
    let mut scenarios = settings.scenarios(&entries);
    let (eko, directory) = (Eko::start()?, tempfile::tempdir()?);
    let bench = Bench { settings, amqp_url, traffic, eko, directory, postgres };
    for entry in entries.iter().filter(|entry| !entry.is_naive) {
        bench.declare(entry).await?;
    }
    for round in 0..bench.settings.rounds {
        for scenario in &mut scenarios {
            bench.round(round, scenario, &entries).await?;
        }
    }
    for scenario in &scenarios {
        print!("{}", scenario.table.markdown());
    }
    if let Some(file) = &bench.settings.json {
        let tables: Vec<_> = scenarios.iter().map(|scenario| scenario.table.json()).collect();
        std::fs::write(file, format!("{:#}\n", json!({ "tables": tables })))?;
    }
    Ok(())
}

impl Bench {
    /// Lets a worker declare its queues: they have to be there before a backlog is.
    async fn declare(&self, entry: &Entry) -> anyhow::Result<()> {
        let ledger_url = self.new_ledger("ledger").await?;
        let worker = self.start(entry, &ledger_url).await?;
        self.traffic.until_consumed(&entry.prefix).await.with_context(|| self.log())?;
        worker.stop()
    }

    async fn round(
        &self,
        round: usize,
        scenario: &mut Scenario,
        entries: &[Entry],
    ) -> anyhow::Result<()> {
        // Whoever is first finds another machine than who is last.
        let mut order: Vec<usize> = (0..scenario.table.runs.len()).collect();
        let turn = round % order.len().max(1);
        order.rotate_left(turn);
        for n in order {
            let name = scenario.table.runs[n].0.clone();
            let Some(entry) = entries.iter().find(|entry| entry.name == name) else { continue };
            let figures = match scenario.mode {
                Mode::Backlog => self.backlog(entry, scenario).await,
                Mode::Storm => self.storm(entry, scenario).await,
                Mode::Steady => self.steady(entry, scenario).await,
                Mode::Growth => self.growth(entry, scenario).await,
            };
            let figures = figures.with_context(|| format!("{name}, {}", self.log()))?;
            let text: Vec<_> = figures.iter().map(|figure| format!("{figure:.2}")).collect();
            let (round, of) = (round + 1, self.settings.rounds);
            eprintln!("round {round} of {of}, {}: {name} {}", scenario.name, text.join(" "));
            scenario.table.runs[n].1.push(figures);
        }
        Ok(())
    }

    async fn backlog(&self, entry: &Entry, scenario: &Scenario) -> anyhow::Result<Vec<f64>> {
        let ledger_url = self.new_ledger("ledger").await?;
        let ran = self.work_off(entry, scenario.mood, scenario.count, &ledger_url).await?;
        Ok(ran.end()?.to_vec())
    }

    /// A command that a pause caught half way waits for a minute, and is a figure of its own.
    async fn storm(&self, entry: &Entry, scenario: &Scenario) -> anyhow::Result<Vec<f64>> {
        let (ledger_url, count) = (self.new_ledger("ledger").await?, scenario.count);
        let ran = self.work_off(entry, scenario.mood, count, &ledger_url).await?;
        let most = count * 99 / 100;
        let (rate, last) = (most as f64 / ran.seconds(most - 1), ran.seconds(count - 1));
        let [_, cpu, rss] = ran.end()?;
        Ok(vec![rate, last, cpu, rss])
    }

    async fn steady(&self, entry: &Entry, scenario: &Scenario) -> anyhow::Result<Vec<f64>> {
        let (ledger_url, count, rate) =
            (self.new_ledger("ledger").await?, scenario.count, self.settings.rate);
        self.eko.renew(scenario.mood);
        self.traffic.purge(&entry.prefix).await?;
        let worker = self.start(entry, &ledger_url).await?;
        self.traffic.until_consumed(&entry.prefix).await?;
        let (sender, events) =
            (self.traffic.sender(&entry.prefix).await?, self.traffic.events(&entry.prefix).await?);
        let took = crate::steady(sender, events, count, rate).await?;
        let warm = took.get((rate * WARMING_SECONDS) as usize..).context("too few commands")?;
        let figures = vec![
            percentile(warm, 50),
            percentile(warm, 99),
            micros(&worker, count)?,
            worker.peak_mib()?,
        ];
        self.eko.first_call(count)?;
        worker.stop()?;
        Ok(figures)
    }

    /// What waits costs memory nowhere but in the broker; what is finished slows nothing down.
    async fn growth(&self, entry: &Entry, scenario: &Scenario) -> anyhow::Result<Vec<f64>> {
        let (count, mood) = (scenario.count, scenario.mood);
        let few = self.work_off(entry, mood, count / 100, &self.new_ledger("empty").await?).await?;
        let [.., little] = few.end()?;
        let grown = self.new_ledger("grown").await?;
        let [.., much] = self.work_off(entry, mood, count, &grown).await?.end()?;
        let started = self.first_event(entry, &grown).await?;
        let (mut on_empty, mut on_grown) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let empty = self.new_ledger("empty").await?;
            let mut turns = [(&empty, &mut on_empty), (&grown, &mut on_grown)];
            // Whoever is first finds another machine than who is second.
            turns.rotate_left(pair % 2);
            for (ledger_url, runs) in turns {
                runs.push(self.work_off(entry, mood, count / PORTION, ledger_url).await?.end()?);
            }
        }
        let of = |runs: &[[f64; 3]], n: usize| median(runs.iter().map(|run| run[n]).collect());
        let ratios = on_grown.iter().zip(&on_empty).map(|(grown, empty)| grown[0] / empty[0]);
        Ok(vec![
            of(&on_empty, 0),
            of(&on_grown, 0),
            median(ratios.collect()),
            of(&on_empty, 1),
            of(&on_grown, 1),
            little,
            much,
            started,
        ])
    }

    /// Milliseconds from a worker's start to the event of a refund that waits for it.
    async fn first_event(&self, entry: &Entry, ledger_url: &str) -> anyhow::Result<f64> {
        let mut events = self.traffic.events(&entry.prefix).await?;
        self.traffic.sender(&entry.prefix).await?.send(1).await?;
        let begun = Instant::now();
        let worker = self.start(entry, ledger_url).await?;
        events.next().await?;
        let started = begun.elapsed().as_secs_f64() * 1e3;
        events.end().await?;
        worker.stop()?;
        Ok(started)
    }

    /// Publishes so many refunds, then starts the worker, until the last event.
    async fn work_off(
        &self,
        entry: &Entry,
        mood: Mood,
        count: usize,
        ledger_url: &str,
    ) -> anyhow::Result<Ran> {
        self.eko.renew(mood);
        self.traffic.purge(&entry.prefix).await?;
        let mut events = self.traffic.events(&entry.prefix).await?;
        self.traffic.sender(&entry.prefix).await?.send(count).await?;
        tokio::time::sleep(CALM).await;
        let worker = self.start(entry, ledger_url).await?;
        let mut seen = events.arrivals(count).await?;
        seen.sort();
        events.end().await?;
        let first_call = self.eko.first_call(count)?;
        Ok(Ran { worker, first_call, seen })
    }

    async fn start(&self, entry: &Entry, ledger_url: &str) -> anyhow::Result<Worker> {
        self.traffic.unpair(&entry.prefix).await?;
        Worker::start(&Start {
            program: &entry.program,
            ledger_url: (!entry.is_naive).then_some(ledger_url),
            amqp_url: &self.amqp_url,
            prefix: &entry.prefix,
            eko_url: &self.eko.base_url,
            in_flight: self.settings.in_flight,
            log: &self.directory.path().join("log"),
        })
    }

    /// The address of an empty ledger; the one of that name before it is gone.
    async fn new_ledger(&self, name: &str) -> anyhow::Result<String> {
        match self.settings.ledger {
            Ledger::Memory => Ok("sqlite://unused".to_owned()),
            Ledger::Sqlite => {
                let file = self.directory.path().join(format!("{name}.db"));
                for end in ["", "-wal", "-shm", ".lock"] {
                    std::fs::remove_file(format!("{}{end}", file.display())).ok();
                }
                Ok(format!("sqlite://{}", file.display()))
            }
            Ledger::Postgres => {
                let client = self.postgres.as_ref().context("no PostgreSQL")?;
                let schema = format!("eko_worker_bench_{name}");
                let renew =
                    format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
                client.batch_execute(&renew).await?;
                let url = self.settings.postgres_url.as_deref().unwrap_or_default();
                let mark = if url.contains('?') { '&' } else { '?' };
                Ok(format!("{url}{mark}options=-csearch_path%3D{schema}"))
            }
        }
    }

    /// The last lines of the worker's log.
    fn log(&self) -> String {
        let log = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log[log.len().saturating_sub(2_000)..]).into_owned();
        format!("the worker's last words:\n{log}")
    }
}

/// CPU microseconds for each command.
fn micros(worker: &Worker, count: usize) -> anyhow::Result<f64> {
    Ok(worker.cpu_seconds()? * 1e6 / count as f64)
}
