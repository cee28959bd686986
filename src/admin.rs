//! The admin server: `/metrics`, `/healthz`, `/readyz`, on a thread of its own, so that it
//! answers also when the worker's event loop is stuck.

mod connections;
mod healthcheck;
mod heartbeat;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::breaker::{Breakers, Reason};
use crate::broker::Refusals;
use crate::command::Kind;
use crate::ledger::{self, Ledger, OperatorPause};
use crate::metrics::Metrics;
use crate::{log, systemd};
pub(crate) use healthcheck::healthcheck;
pub(crate) use heartbeat::Heartbeat;

/// How long a scrape waits for the ledger's counts before it goes without them.
const COUNTS_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the server may take to end: somebody may be reading an answer.
const GOODBYE: Duration = Duration::from_secs(1);

/// What readiness rests on beside the breakers: the session with the broker. The app writes it,
/// `/readyz` reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<Mutex<Parts>>);

#[derive(Clone, Debug, Default)]
struct Parts {
    is_connected: bool,
    /// Which kinds have a consumer.
    consumers: BTreeSet<&'static str>,
    problem: Option<String>,
}

/// The body of `/readyz`.
#[derive(Serialize)]
struct Ready {
    ready: bool,
    broker_connected: bool,
    topology_declared: bool,
    consumers: BTreeMap<&'static str, bool>,
    paused: BTreeMap<&'static str, &'static str>,
    /// Which kinds an operator has paused, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    paused_by_operator: BTreeMap<&'static str, ByOperator>,
    /// Why the ledger cannot be used now, where it pauses what it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger: Option<String>,
    /// Queues that do not take the commands that should wait in them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    refusing: Vec<String>,
    missing: Vec<String>,
}

/// A pause by hand, as `/readyz` tells it.
#[derive(Serialize)]
struct ByOperator {
    reason: String,
    by: String,
    since: Timestamp,
}

impl Readiness {
    /// Topology and consumers stand.
    pub(crate) fn connected(&self) {
        self.change(|parts| {
            parts.is_connected = true;
            parts.problem = None;
        });
    }

    /// The broker is gone or does not let us in.
    pub(crate) fn disconnected(&self, problem: String) {
        self.change(|parts| *parts = Parts { problem: Some(problem), ..Parts::default() });
    }

    /// The consumer of a kind was registered.
    pub(crate) fn consuming(&self, kind: Kind) {
        self.change(|parts| _ = parts.consumers.insert(kind.as_str()));
    }

    /// The consumer of a kind is gone.
    pub(crate) fn not_consuming(&self, kind: Kind) {
        self.change(|parts| _ = parts.consumers.remove(kind.as_str()));
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn parts(&self) -> Parts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn report(&self, breakers: &Breakers) -> Ready {
        let parts = self.parts();
        let consumers: BTreeMap<&'static str, bool> =
            Kind::ALL.map(|kind| (kind.as_str(), parts.consumers.contains(kind.as_str()))).into();
        let mut missing = Vec::new();
        missing.extend(parts.lack_of_ledger(breakers).map(|problem| format!("ledger: {problem}")));
        if !parts.is_connected {
            let problem = parts.problem.as_deref().unwrap_or("not connected yet");
            missing.push(format!("broker: {problem}"));
        }
        let paused: BTreeMap<_, _> = Kind::ALL
            .into_iter()
            .filter_map(|kind| {
                Some((kind.as_str(), parts.paused(breakers, kind).first()?.as_str()))
            })
            .collect();
        for (kind, is_consuming) in &consumers {
            if !is_consuming && !paused.contains_key(kind) {
                missing.push(format!("consumer: {kind}"));
            }
        }
        // All kinds may lack the same.
        let mismatches: BTreeSet<_> =
            Kind::ALL.into_iter().filter_map(|kind| breakers.topology_problem(kind)).collect();
        let topology_declared = parts.is_connected && mismatches.is_empty();
        missing.extend(mismatches.into_iter().map(|why| format!("topology: {why}")));
        Ready {
            ready: missing.is_empty(),
            broker_connected: parts.is_connected,
            topology_declared,
            consumers,
            paused,
            paused_by_operator: by_operator(breakers),
            ledger: breakers.ledger_failure().map(|error| error.to_string()),
            refusing: Vec::new(),
            missing,
        }
    }
}

fn by_operator(breakers: &Breakers) -> BTreeMap<&'static str, ByOperator> {
    let pauses = breakers.operator_pauses().into_iter().map(|pause| {
        let OperatorPause { kind, since, person, reason } = pause;
        (kind.as_str(), ByOperator { reason, by: person, since })
    });
    pauses.collect()
}

impl Parts {
    /// Why a kind is paused. Without a session nothing is consumed, whatever is paused.
    fn paused(&self, breakers: &Breakers, kind: Kind) -> Vec<Reason> {
        if self.is_connected { breakers.shown(kind) } else { Vec::new() }
    }

    /// Why there is no ledger to work with, where a person may have to settle that. What passes by
    /// itself is a pause. Whose the queues are, only a session tells.
    fn lack_of_ledger(&self, breakers: &Breakers) -> Option<String> {
        let mispaired = || breakers.mispaired().filter(|_| self.is_connected);
        let refusal = || match breakers.ledger_failure()? {
            error @ (ledger::Error::Refused(_) | ledger::Error::Unfit(_)) => {
                Some(error.to_string())
            }
            ledger::Error::Store(_)
            | ledger::Error::Away(_)
            | ledger::Error::NotYet(_)
            | ledger::Error::InUse(_)
            | ledger::Error::Closed => None,
        };
        breakers
            .awaited()
            .or_else(|| mispaired().map(|problem| problem.why().to_owned()))
            .or_else(refusal)
    }
}

/// What the admin server tells of.
#[derive(Clone)]
pub(crate) struct Shared {
    /// For `/metrics` and `/readyz`.
    pub(crate) breakers: Arc<Breakers>,
    /// For `/metrics`.
    pub(crate) metrics: Arc<Metrics>,
    /// For `/readyz`.
    pub(crate) readiness: Readiness,
    /// For `/healthz`.
    pub(crate) heartbeat: Heartbeat,
    /// Counted for `/metrics`, once it is open.
    pub(crate) ledger: Arc<OnceLock<Ledger>>,
    /// Which queues of the worker's own take no commands, for `/metrics` and `/readyz`.
    pub(crate) refusals: Refusals,
}

/// The running admin server.
pub(crate) struct Server {
    stop: CancellationToken,
    ended: oneshot::Receiver<()>,
}

impl Server {
    /// Listens, and serves until it is stopped.
    ///
    /// # Errors
    /// Where the address cannot be listened on.
    pub(crate) fn start(address: SocketAddr, shared: Shared) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        tracing::info!(addr = %listener.local_addr()?, "admin server listening");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, (end, ended)) = (CancellationToken::new(), oneshot::channel());
        let stopped = stop.clone();
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(serve(listener, shared, stopped)) {
                tracing::error!(%error, "the admin server has stopped");
            }
            drop(end);
        })?;
        Ok(Self { stop, ended })
    }

    /// Stops it.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if tokio::time::timeout(GOODBYE, self.ended).await.is_err() {
            tracing::debug!(
                "the admin server did not stop in time: a client still reads its answer"
            );
        }
    }
}

async fn serve(
    listener: TcpListener,
    shared: Shared,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let app = Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state(shared.clone());
    // This thread's own loop turns while the worker's is stuck.
    tokio::spawn(systemd::keep_watch(shared.heartbeat.clone()));
    let listener = tokio::net::TcpListener::from_std(listener)?;
    connections::serve(listener, app, stop).await;
    Ok(())
}

async fn alive(State(shared): State<Shared>) -> Response {
    let (status, word, age) = match shared.heartbeat.age() {
        Ok(age) => (StatusCode::OK, "ok", age),
        Err(age) => (StatusCode::SERVICE_UNAVAILABLE, "stuck", age),
    };
    let seconds = age.as_secs_f64();
    (status, format!("{word}: the event loop was seen {seconds:.1} s ago\n")).into_response()
}

async fn render(State(shared): State<Shared>) -> Response {
    match shared.ledger.get() {
        Some(ledger) => count(ledger, &shared.metrics).await,
        None => shared.metrics.counted(None, age),
    }
    let parts = shared.readiness.parts();
    shared.metrics.connected(parts.is_connected);
    for kind in Kind::ALL {
        shared.metrics.paused(kind, &parts.paused(&shared.breakers, kind));
        shared.metrics.consuming(kind, parts.consumers.contains(kind.as_str()));
        shared.metrics.limited(kind, shared.breakers.limit(kind));
    }
    shared.metrics.dropped_log_lines(log::dropped());
    for (queue, times) in shared.refusals.counts() {
        shared.metrics.parking_refused(queue, times);
    }
    match shared.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn count(ledger: &Ledger, metrics: &Metrics) {
    let counted = tokio::time::timeout(COUNTS_TIMEOUT, ledger.backlog_counts()).await;
    let why = match counted {
        Ok(Ok(counts)) => return metrics.counted(Some(&counts), age),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {COUNTS_TIMEOUT:?}"),
    };
    metrics.counted(None, age);
    tracing::warn!(why, "the ledger could not be counted: its metrics are left out of this scrape");
}

async fn ready(State(shared): State<Shared>) -> Response {
    let report = shared.readiness.report(&shared.breakers);
    let report = Ready { refusing: shared.refusals.refusing(), ..report };
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

/// Seconds since a time.
#[expect(clippy::disallowed_methods, reason = "a scrape tells how old the oldest is")]
fn age(since: Timestamp) -> f64 {
    Timestamp::now().duration_since(since).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;
    use crate::breaker;
    use crate::worker::Clock;

    fn breakers() -> Breakers {
        let settings = breaker::Settings::default();
        Breakers::new(settings, Clock::begin(), CancellationToken::new())
    }

    fn shared(heartbeat: Heartbeat) -> Shared {
        Shared {
            breakers: Arc::new(breakers()),
            metrics: Arc::new(Metrics::new("eko").unwrap()),
            readiness: Readiness::default(),
            heartbeat,
            ledger: Arc::default(),
            refusals: Refusals::new("eko", CancellationToken::new()),
        }
    }

    /// Without a runtime of the test's own: whoever answers does so from the server's thread.
    #[test]
    fn a_stuck_event_loop_is_told_by_a_server_that_does_not_need_it() {
        let heartbeat = Heartbeat::stopped_for(Duration::from_secs(11));
        let shared = shared(heartbeat);
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let _server = Server::start(free, shared).unwrap();
        let get = |path: &str| {
            let mut stream = TcpStream::connect(free).unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let told = get("/healthz");
        assert!(told.starts_with("HTTP/1.1 503") && told.contains("stuck: "), "{told}");
        let error = healthcheck(free).unwrap_err().to_string();
        assert!(error.starts_with("stuck: "), "{error}");
        assert!(get("/metrics").starts_with("HTTP/1.1 200"), "without a ledger, too");
    }

    #[test]
    fn a_health_check_asks_on_loopback_what_listens_everywhere() {
        let shared = shared(Heartbeat::stopped_for(Duration::ZERO));
        let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap();
        let error = format!("{:#}", healthcheck(port).unwrap_err());
        assert!(error.starts_with("no answer from 127.0.0.1:"), "{error}");
        let _server = Server::start(port, shared).unwrap();
        assert!(healthcheck(port).unwrap().starts_with("ok: "));
    }

    #[test]
    fn a_paused_kind_needs_no_consumer_and_is_shown_while_the_session_lasts() {
        let (readiness, breakers) = (Readiness::default(), breakers());
        breakers.pause_all(Reason::Outage, Duration::ZERO);
        readiness.disconnected("away".to_owned());
        let report = readiness.report(&breakers);
        assert!(report.paused.is_empty() && !report.ready, "{:?}", report.missing);
        readiness.connected();
        let report = readiness.report(&breakers);
        assert_eq!(report.paused.values().copied().collect::<Vec<_>>(), ["outage"; 3]);
        assert!(report.ready, "{:?}", report.missing);
        breakers.resume(Kind::Refund, Duration::ZERO);
        assert_eq!(readiness.report(&breakers).missing, ["consumer: refund"]);
        readiness.consuming(Kind::Refund);
        assert!(readiness.report(&breakers).ready);
        breakers.note_topology(Kind::Refund, Some("it is gone".to_owned()));
        let report = readiness.report(&breakers);
        assert_eq!(report.missing, ["topology: it is gone"]);
        assert!(report.paused["refund"] == "topology" && !report.topology_declared);
    }

    #[test]
    fn a_ledger_that_is_waited_for_is_missing_and_said_so() {
        let (readiness, breakers) = (Readiness::default(), breakers());
        breakers.await_ledger(Some("connection refused".to_owned()));
        let missing = readiness.report(&breakers).missing;
        assert!(missing.contains(&"ledger: connection refused".to_owned()), "{missing:?}");
        breakers.note_ledger(Some(ledger::Error::NotYet("disk full".to_owned())));
        breakers.await_ledger(None);
        readiness.disconnected("away".to_owned());
        let failure = readiness.report(&breakers).ledger.unwrap();
        assert!(failure.ends_with("disk full"), "{failure}");
        breakers.note_ledger(None);
        assert_eq!(readiness.report(&breakers).ledger, None);
        let missing = readiness.report(&breakers).missing;
        assert!(!missing.iter().any(|what| what.starts_with("ledger")), "{missing:?}");
    }
}
