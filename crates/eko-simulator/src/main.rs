#![doc = include_str!("../README.md")]

mod answers;
mod call;
mod control;
mod effect;
mod eko;
mod faults;
mod healthcheck;
mod misbehave;
mod plan;
mod server;
mod shape;
mod signature;
mod socket;
mod state;

use std::io::{self, Write as _};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::call::Endpoint;
use crate::faults::Fault;
use crate::plan::{Details, Order, Plan};
use crate::server::Shared;
use crate::signature::Keys;
use crate::state::State;

/// A stand-in for Eko's v3 API: refund OTP, refund, transfer OTP and inquiry, with state.
#[derive(Parser)]
#[command(version, after_help = faults::help())]
struct Args {
    /// Where to listen; any base path that ends in /v3 is served.
    #[arg(long, env = "SIMULATOR_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Only ask the one that listens there whether it answers: exit code 0 or 1.
    #[arg(long)]
    healthcheck: bool,

    /// The `developer_key` that requests must carry.
    #[arg(
        long,
        env = "EKO_DEVELOPER_KEY",
        default_value = "demo-developer-key",
        hide_env_values = true
    )]
    developer_key: String,

    /// The access key that requests must be signed with.
    #[arg(long, env = "EKO_ACCESS_KEY", default_value = "demo-access-key", hide_env_values = true)]
    access_key: String,

    /// How long each answer is on its way, as 50ms; the effect is there at once.
    #[arg(long, default_value = "0s")]
    latency: jiff::SignedDuration,

    /// How far from its own clock a timestamp may be, either way.
    #[arg(long, default_value = "120s", value_name = "DURATION")]
    stamp_tolerance: jiff::SignedDuration,

    /// A fault by chance, as [ENDPOINT/]NAME=PROBABILITY; may be given several times.
    #[arg(long, value_parser = fault, value_name = "NAME=PROBABILITY")]
    fault: Vec<(Option<Endpoint>, Fault, f64)>,

    /// The seed of all chance: the same seed and calls, the same faults.
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Execute the refund of a refunded tid again when asked again.
    #[arg(long)]
    careless: bool,

    /// Print one line for each request on stderr.
    #[arg(long)]
    verbose: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    if args.healthcheck {
        return healthcheck::healthcheck(args.listen).await;
    }
    let stop = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        stopping.cancel();
    });
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    // Whoever started it may read nothing of it.
    writeln!(io::stdout(), "listening on http://{}", listener.local_addr()?).ok();
    server::serve(listener, Shared::new(first_state(&args), args.verbose), stop).await;
    Ok(())
}

fn first_state(args: &Args) -> State {
    let mut plan = Plan::new(args.seed);
    for &(endpoint, fault, probability) in &args.fault {
        let details = Details::default();
        plan.add(Order { tid: None, endpoint, fault, times: None, probability, details });
    }
    let keys = Keys::new(&args.developer_key, &args.access_key);
    let mut state = State::new(keys, plan, milliseconds(args.stamp_tolerance));
    state.latency_ms = milliseconds(args.latency);
    state.careless = args.careless;
    state
}

fn milliseconds(duration: jiff::SignedDuration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(0)
}

fn fault(text: &str) -> Result<(Option<Endpoint>, Fault, f64), String> {
    let (name, probability) = text.split_once('=').ok_or("it is not NAME=PROBABILITY")?;
    let probability: f64 = probability.parse().map_err(|_| "the probability is not a number")?;
    if !(0.0..=1.0).contains(&probability) {
        return Err("the probability is not between 0 and 1".to_owned());
    }
    let (endpoint, name) = match name.split_once('/') {
        Some((endpoint, name)) => {
            (Some(Endpoint::from_name(endpoint).ok_or("there is no such endpoint")?), name)
        }
        None => (None, name),
    };
    let fault = Fault::from_name(name).ok_or("there is no such fault")?;
    Ok((endpoint, fault, probability))
}
