//! What is measured: workers, scenarios and their figures.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::eko::Mood;
use crate::report::{Column, Compared, Table};

/// How long steady load goes on.
const STEADY_SECONDS: f64 = 20.0;

/// What is measured, and of whom.
#[derive(Args)]
pub(crate) struct Settings {
    /// What is measured.
    #[arg(value_enum, default_values_t = [Mode::Backlog, Mode::Steady])]
    pub(crate) modes: Vec<Mode>,
    /// A worker, as NAME=PATH; may be given several times.
    #[arg(long = "build", required = true, value_parser = named)]
    pub(crate) builds: Vec<(String, PathBuf)>,
    /// The naive worker, to which the others are compared.
    #[arg(long)]
    pub(crate) peer: Option<PathBuf>,
    /// How often all of it is measured.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Commands of each run: 20000, of growth 1000000.
    #[arg(long)]
    pub(crate) commands: Option<usize>,
    /// Eko's latencies for the backlog, in milliseconds.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 50])]
    pub(crate) latency: Vec<u64>,
    /// Calls in flight.
    #[arg(long, default_value_t = 200)]
    pub(crate) in_flight: u16,
    /// Commands a second under steady load.
    #[arg(long, default_value_t = 300.0)]
    pub(crate) rate: f64,
    /// Where the workers keep their ledgers.
    #[arg(long, value_enum, default_value_t = Ledger::Sqlite)]
    pub(crate) ledger: Ledger,
    /// The server, for --ledger postgres.
    #[arg(long, required_if_eq("ledger", "postgres"))]
    pub(crate) postgres_url: Option<String>,
    /// A file for all figures.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Commands wait, then the worker is started.
    Backlog,
    /// So many commands a second.
    Steady,
    /// A backlog where every first call is answered 503.
    Storm,
    /// All commands wait; then a start, and more commands, on the ledger that they leave.
    Growth,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Ledger {
    Sqlite,
    Postgres,
    /// None: the worker must be `examples/forgetful.rs`.
    Memory,
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("it is not NAME=PATH")?;
    Ok((name.to_owned(), path.into()))
}

const fn column(name: &'static str, digits: usize, compared: Compared) -> Column {
    Column { name, digits, compared }
}

const CPU: Column = column("CPU µs a command", 0, Compared::ByRatio);
const RSS: Column = column("peak RSS MiB", 0, Compared::ByRatio);
const BACKLOG: &[Column] = &[column("commands/s", 0, Compared::ByRatio), CPU, RSS];
const STORM: &[Column] = &[
    column("settled/s, of 99 %", 0, Compared::ByRatio),
    column("last settled after s", 1, Compared::ByRatio),
    CPU,
    RSS,
];
const STEADY: &[Column] = &[
    column("p50 ms", 2, Compared::ByDifference),
    column("p99 ms", 2, Compared::ByDifference),
    CPU,
    RSS,
];
const GROWTH: &[Column] = &[
    column("commands/s, ledger empty", 0, Compared::ByRatio),
    column("commands/s, ledger grown", 0, Compared::ByRatio),
    column("grown to empty", 2, Compared::ByRatio),
    column("CPU µs, ledger empty", 0, Compared::ByRatio),
    column("CPU µs, ledger grown", 0, Compared::ByRatio),
    column("peak RSS MiB, a hundredth waiting", 0, Compared::ByRatio),
    column("peak RSS MiB, all waiting", 0, Compared::ByRatio),
    column("start to first event ms, ledger grown", 0, Compared::ByDifference),
];

pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) mode: Mode,
    pub(crate) mood: Mood,
    pub(crate) count: usize,
    pub(crate) table: Table,
}

/// Who is measured.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) prefix: String,
    pub(crate) is_naive: bool,
}

impl Settings {
    /// The naive worker first, so that all others are compared with it.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let run = fastrand::u32(..);
        let prefix = |n: usize| format!("bench-{run}-{n}");
        let naive = self.peer.iter().map(|program| Entry {
            name: "naive".to_owned(),
            program: program.clone(),
            // It declares nothing.
            prefix: prefix(0),
            is_naive: true,
        });
        let builds = self.builds.iter().enumerate().map(|(n, (name, program))| Entry {
            name: name.clone(),
            program: program.clone(),
            prefix: prefix(n),
            is_naive: false,
        });
        naive.chain(builds).collect()
    }

    pub(crate) fn scenarios(&self, entries: &[Entry]) -> Vec<Scenario> {
        let mut scenarios = Vec::new();
        for &mode in &self.modes {
            let latencies = if mode == Mode::Backlog { self.latency.as_slice() } else { &[0] };
            for &ms in latencies {
                scenarios.push(self.scenario(mode, Duration::from_millis(ms), entries));
            }
        }
        scenarios
    }

    fn scenario(&self, mode: Mode, latency: Duration, entries: &[Entry]) -> Scenario {
        let most = self.commands.unwrap_or(if mode == Mode::Growth { 1_000_000 } else { 20_000 });
        let (name, columns, count) = match mode {
            Mode::Backlog => (format!("backlog, Eko {} ms", latency.as_millis()), BACKLOG, most),
            Mode::Storm => ("storm".to_owned(), STORM, most),
            Mode::Growth => ("growth".to_owned(), GROWTH, most),
            Mode::Steady => {
                let count = most.min((self.rate * STEADY_SECONDS) as usize);
                (format!("steady, {} a second", self.rate), STEADY, count)
            }
        };
        let ledger = self.ledger.to_possible_value();
        let title = format!(
            "**{name}**: {count} commands, {} in flight, ledger {}, medians of {} rounds",
            self.in_flight,
            ledger.as_ref().map_or("", |value| value.get_name()),
            self.rounds
        );
        // The naive worker does not retry: it would lose them all.
        let takes_part = |entry: &&Entry| !(entry.is_naive && mode == Mode::Storm);
        let taking_part = entries.iter().filter(takes_part);
        let runs = taking_part.map(|entry| (entry.name.clone(), Vec::new())).collect();
        let mood = Mood { latency, is_stormy: mode == Mode::Storm };
        Scenario { name, mode, mood, count, table: Table { title, columns, runs } }
    }
}
