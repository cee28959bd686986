//! What the ledger's stores can do. `cargo bench -p eko-bench --bench ledger`.
//!
//! PostgreSQL takes part where `EKO_TEST_POSTGRES_URL` names a server; it gets a schema of its
//! own. `EKO_BENCH_ROWS` sets the size of the large ledger.

mod bench;

use std::time::Instant;

use bench::Bench;

/// As many commands as a busy worker has in flight.
const TASKS: u64 = 200;
/// Of one run, and how many runs a median is of.
const PAIRS: u64 = 20_000;
const RUNS: u64 = 5;
/// The small ledger, and what is asked of small and large alike.
const FEW: u64 = 1_000;
const CLAIMS: u64 = 20_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let rows = setting("EKO_BENCH_ROWS").map_or(Ok(1_000_000), |rows| rows.parse())?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("ledger.db");
    measure("SQLite", &format!("sqlite://{}", file.display()), rows).await?;
    let bytes: u64 = ["", "-wal"]
        .iter()
        .filter_map(|end| std::fs::metadata(format!("{}{end}", file.display())).ok())
        .map(|file| file.len())
        .sum();
    println!("SQLite      file {} MB", bytes / 1_000_000);
    let Some(server) = setting("EKO_TEST_POSTGRES_URL") else {
        println!("PostgreSQL  skipped: EKO_TEST_POSTGRES_URL is not set");
        return Ok(());
    };
    let (client, connection) = tokio_postgres::connect(&server, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("DROP SCHEMA IF EXISTS bench CASCADE; CREATE SCHEMA bench").await?;
    let mark = if server.contains('?') { '&' } else { '?' };
    let url = format!("{server}{mark}options=-csearch_path%3Dbench");
    measure("PostgreSQL", &url, rows).await?;
    let size = "SELECT pg_total_relation_size('bench.commands')";
    let size: i64 = client.query_one(size, &[]).await?.get(0);
    println!("PostgreSQL  tables and indexes {} MB", size / 1_000_000);
    client.batch_execute("DROP SCHEMA bench CASCADE").await?;
    Ok(())
}

async fn measure(store: &str, url: &str, rows: u64) -> anyhow::Result<()> {
    let bench = Bench::open(url).await?;
    bench.pairs(0, FEW, TASKS).await?;
    let few = rates(&bench, FEW, FEW).await?;
    tell(store, FEW, &few);
    let written = FEW + RUNS * PAIRS;
    bench.pairs(written, rows.saturating_sub(written), 2 * TASKS).await?;
    let many = rates(&bench, rows, rows).await?;
    tell(store, rows, &many);
    Ok(())
}

struct Rates {
    pairs: f64,
    repeats: f64,
}

/// Medians a second; new commands are numbered from `first` on.
async fn rates(bench: &Bench, first: u64, known: u64) -> anyhow::Result<Rates> {
    let (mut pairs, mut repeats) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let begun = now();
        bench.pairs(first + run * PAIRS, PAIRS, TASKS).await?;
        pairs.push(PAIRS as f64 / begun.elapsed().as_secs_f64());
        let begun = now();
        let count = CLAIMS.min(known);
        let from = (known - count) / RUNS * run;
        for _ in 0..CLAIMS / count {
            bench.repeats(from, count, TASKS).await?;
        }
        repeats.push(CLAIMS as f64 / begun.elapsed().as_secs_f64());
    }
    Ok(Rates { pairs: median(pairs), repeats: median(repeats) })
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn tell(store: &str, rows: u64, rates: &Rates) {
    let Rates { pairs, repeats } = rates;
    println!(
        "{store:<11} {rows:>9} rows: begin+finish {pairs:>7.0}/s, repeats answered {repeats:>7.0}/s"
    );
}

#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "only the environment knows the server")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
