//! Composition: Config → resources → tasks → orderly stop.

mod caretaking;
mod operator;
mod pairing;
mod pump;
mod session;
mod stamps;
pub(crate) mod start;
mod steps;
mod sweep;
mod upkeep;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::{Heartbeat, Readiness, Server, Shared};
use crate::backoff::Backoff;
use crate::breaker::Breakers;
use crate::broker::{self, Refusals, Session};
use crate::config::Config;
use crate::eko::Client;
use crate::journey::LastTaken;
use crate::metrics::Metrics;
use crate::otel::Tracer;
use crate::worker::{Clock, Counted, Waiting, Worker};
use crate::{log, shutdown, systemd};
use pairing::Keeper;
pub(crate) use pairing::{mispaired, outdated};
use session::End;
use upkeep::Old;

/// Between tries to reach the broker, each of which asks every node: a second at most, since
/// a node that is back should be consumed from at once, and to be refused costs nothing.
const RECONNECT: Backoff =
    Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };

/// Between sessions that end since the user may not publish: each costs what was delivered one
/// of the deliveries that the broker counts.
const REFUSED: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60) };

/// A session that ends sooner was none: without that, one that is lost as soon as it consumes
/// would be begun again without a wait.
const SHORTEST_SESSION: Duration = Duration::from_secs(1);

/// Runs the worker until a signal asks it to stop.
///
/// # Errors
/// Where it cannot start, or where RabbitMQ has an exchange or queue of another shape.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let _lines = log::start(config.log_format, config.log_filter.as_deref())
        .map_err(|problem| crate::Problems(vec![problem]))?;
    config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    start::tls_provider();
    let tracer = Tracer::start(config.otlp_endpoint.as_ref())?;
    let (stop, hangups) = (shutdown::on_signal(config.shutdown_grace)?, shutdown::hangups()?);
    let shared = Shared {
        breakers: Arc::new(Breakers::new(config.breaker, Clock::begin(), stop.clone())),
        metrics: Arc::new(Metrics::new(&config.broker.prefix)?),
        readiness: Readiness::default(),
        heartbeat: Heartbeat::start(),
        ledger: Arc::default(),
        refusals: Refusals::new(&config.broker.prefix, stop.clone()),
    };
    let admin = Server::start(config.admin_addr, shared.clone())
        .with_context(|| format!("ADMIN_ADDR: cannot listen on {}", config.admin_addr))?;
    systemd::ready();
    tokio::spawn(stop.clone().cancelled_owned().map(|()| systemd::stopping()));
    let Some(worker) = worker(&config, &shared, tracer, &stop).await? else {
        admin.stop().await;
        return Ok(());
    };
    let worker = Arc::new(worker);
    let reconnect_now = Arc::new(Notify::new());
    let rereading = start::Rereading {
        worker: Arc::clone(&worker),
        broker: config.broker.clone(),
        ledger: config.ledger.clone(),
        reconnect_now: Arc::clone(&reconnect_now),
    };
    operator::know(&worker, &stop).await;
    let mut beside = beside(&worker, &config);
    beside.spawn(rereading.on(hangups));
    let keeper =
        Keeper::new(Arc::clone(&worker), config.broker.prefix.clone(), config.adopts_ledger);
    let app = App {
        worker: Arc::clone(&worker),
        keeper: Arc::new(keeper),
        readiness: shared.readiness,
        stop,
        grace: config.shutdown_grace,
        orphan_after: config.orphan_after,
        refusals: shared.refusals,
        reconnect_now,
    };
    let result = app.consume(&config.broker).await;
    beside.abort_all();
    worker.tracer.stop().await;
    admin.stop().await;
    tracing::info!("stopped");
    result
}

/// What goes on beside the commands for as long as the process lives.
fn beside(worker: &Arc<Worker>, config: &Config) -> JoinSet<()> {
    let (forgotten, metrics) = (worker.ledger.forgotten(), Arc::clone(&worker.metrics));
    let mut beside = JoinSet::new();
    beside.spawn(upkeep::forget(Arc::clone(worker), Old::Commands, config.retention));
    beside.spawn(operator::watch(Arc::clone(worker)));
    beside.spawn(upkeep::forget(Arc::clone(worker), Old::Audit, config.audit_retention));
    beside.spawn(steps::watch(Arc::clone(worker)));
    beside.spawn(pairing::count_forgotten(forgotten, metrics));
    beside.spawn(stamps::take(Arc::clone(worker)));
    beside
}

/// `None` where the worker was asked to stop before its ledger could be opened.
async fn worker(
    config: &Config,
    shared: &Shared,
    tracer: Tracer,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Worker>> {
    let eko = Client::new(config.eko.clone())?;
    let (opening, breakers) = (start::opening(config.retention)?, &shared.breakers);
    let Some(ledger) = start::open_ledger(&config.ledger, &opening, breakers, stop).await? else {
        return Ok(None);
    };
    pairing::say(ledger.identity());
    Ok(Some(Worker {
        ledger: shared.ledger.get_or_init(|| ledger).clone(),
        eko,
        breakers: Arc::clone(breakers),
        metrics: Arc::clone(&shared.metrics),
        tracer,
        policy: config.policy.clone(),
        defaults: config.defaults.clone(),
        otp_keys: config.otp_keys.clone(),
        lease: config.lease,
        clock: breakers.clock(),
        counted: Counted::default(),
        waiting: Waiting::default(),
        last_taken: LastTaken::default(),
    }))
}

/// Everything that one life of the process shares.
struct App {
    worker: Arc<Worker>,
    keeper: Arc<Keeper>,
    readiness: Readiness,
    stop: CancellationToken,
    grace: Duration,
    /// `ORPHAN_AFTER`.
    orphan_after: Duration,
    /// Which queues take no copies.
    refusals: Refusals,
    /// An operator wants the broker to be tried now.
    reconnect_now: Arc<Notify>,
}

/// What begins with a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// The process: nothing was consumed yet.
    Process,
    /// The session alone: another one was consumed from before.
    Session,
}

impl App {
    /// Consumes, and begins anew whenever the broker is lost, until asked to stop.
    async fn consume(&self, settings: &broker::Settings) -> anyhow::Result<()> {
        let (mut tries, mut refusals, mut node) = (0_u32, 0_u32, 0);
        let mut start = Start::Process;
        while !self.stop.is_cancelled() {
            let connected = tokio::select! {
                connected = broker::connect(settings, &self.refusals, node) => connected,
                () = self.stop.cancelled() => break,
            };
            let mut is_refused = false;
            let problem = match connected {
                Ok(session) => {
                    if start == Start::Process {
                        accept(&session)?;
                    }
                    // The next node may be well, whatever this one has.
                    node = session.node + 1;
                    let began = clock();
                    let end = match self.pair(&session, start).await? {
                        None => {
                            start = Start::Session;
                            self.serve(session).await
                        }
                        Some(why) => {
                            session.close().await;
                            End { why, is_refused: false }
                        }
                    };
                    if began.elapsed() >= SHORTEST_SESSION {
                        tries = 0;
                    }
                    is_refused = end.is_refused;
                    end.why
                }
                Err(error) => error.to_string(),
            };
            self.readiness.disconnected(problem.clone());
            if self.stop.is_cancelled() {
                break;
            }
            say_waiting(&problem, tries);
            refusals = if is_refused { refusals.saturating_add(1) } else { 0 };
            self.wait(tries, refusals).await;
            tries = tries.saturating_add(1);
        }
        Ok(())
    }

    /// Sees whose the prefix is; why the session cannot be used, where the broker does not tell.
    ///
    /// # Errors
    /// Where it belongs to another ledger and the worker has just started.
    async fn pair(
        &self,
        session: &Session,
        start: Start,
    ) -> Result<Option<String>, crate::Problems> {
        let paired = async {
            let pairing = session.pairing()?;
            match start {
                Start::Process => self.keeper.begin(&pairing).await,
                Start::Session => self.keeper.meet(&pairing).await.map(|()| None),
            }
        };
        let paired = tokio::select! {
            paired = paired => paired,
            () = self.stop.cancelled() => return Ok(Some("the worker stops".to_owned())),
        };
        match paired {
            Ok(None) => Ok(None),
            Ok(Some(problem)) => Err(crate::Problems(vec![problem.why().to_owned()])),
            Err(broker::Error::Topology(why)) if start == Start::Process => {
                Err(crate::Problems(vec![why]))
            }
            Err(error) => Ok(Some(error.to_string())),
        }
    }

    /// Waits between tries; the first comes at once, unless the broker refused the last.
    async fn wait(&self, tries: u32, refusals: u32) {
        let jitter = fastrand::f32().into();
        let delay = match (tries, refusals) {
            (0, 0) => return,
            (_, 0) => RECONNECT.delay(tries, jitter),
            (_, refusals) => REFUSED.delay(refusals, jitter),
        };
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = self.reconnect_now.notified() => {}
            () = self.stop.cancelled() => {}
        }
    }
}

/// A worker does not begin with exchanges or queues that are not what it needs.
fn accept(session: &Session) -> Result<(), crate::Problems> {
    let mismatches = session.mismatches();
    if session.is_unchecked {
        tracing::info!(
            "the user of AMQP_URL may not declare: everything is there, but RabbitMQ does not \
             tell whether its arguments and bindings are right"
        );
    }
    if mismatches.is_empty() { Ok(()) } else { Err(crate::Problems(mismatches)) }
}

/// One line for the first try, the second, the fourth and so on: a broker may be away for long.
fn say_waiting(problem: &str, tries: u32) {
    let tries = tries.saturating_add(1);
    if tries.is_power_of_two() {
        tracing::warn!(problem, tries, "waiting for the broker");
    } else {
        tracing::debug!(problem, tries, "waiting for the broker");
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a session lasted")]
fn clock() -> Instant {
    Instant::now()
}
