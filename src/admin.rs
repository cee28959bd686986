//! The admin server: `/metrics`, `/healthz`, `/readyz`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::command::Kind;
use crate::gate::Reason;
use crate::ledger::Ledger;
use crate::metrics::Metrics;

/// How long a scrape waits for the ledger's counts before it goes without new ones.
const CENSUS_TIMEOUT: Duration = Duration::from_secs(2);

/// What readiness rests on; the app writes it, `/readyz` reads it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<Mutex<Parts>>);

#[derive(Clone, Debug, Default)]
struct Parts {
    is_connected: bool,
    consumers: BTreeMap<&'static str, bool>,
    paused: BTreeMap<&'static str, &'static str>,
    mismatches: BTreeMap<&'static str, String>,
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
    missing: Vec<String>,
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

    /// A consumer was registered, or is gone.
    pub(crate) fn consuming(&self, kind: Kind, is_consuming: bool) {
        self.change(|parts| {
            parts.consumers.insert(kind.as_str(), is_consuming);
        });
    }

    /// Consumption of a kind is paused for a reason, or goes on.
    pub(crate) fn paused(&self, kind: Kind, reason: Option<Reason>) {
        self.change(|parts| match reason {
            Some(reason) => drop(parts.paused.insert(kind.as_str(), reason.as_str())),
            None => drop(parts.paused.remove(kind.as_str())),
        });
    }

    /// What a kind needs of the broker is not what is there, or is.
    pub(crate) fn mismatch(&self, kind: Kind, why: Option<&str>) {
        self.change(|parts| match why {
            Some(why) => drop(parts.mismatches.insert(kind.as_str(), why.to_owned())),
            None => drop(parts.mismatches.remove(kind.as_str())),
        });
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn report(&self) -> Ready {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let consumers: BTreeMap<&'static str, bool> = Kind::ALL
            .map(|kind| (kind.as_str(), parts.consumers.get(kind.as_str()) == Some(&true)))
            .into();
        let mut missing = Vec::new();
        if !parts.is_connected {
            let problem = parts.problem.unwrap_or_else(|| "not connected yet".to_owned());
            missing.push(format!("broker: {problem}"));
        }
        for (kind, is_consuming) in &consumers {
            if !is_consuming && !parts.paused.contains_key(kind) {
                missing.push(format!("consumer: {kind}"));
            }
        }
        // All kinds may lack the same.
        let mismatches: BTreeSet<_> = parts.mismatches.into_values().collect();
        let topology_declared = parts.is_connected && mismatches.is_empty();
        missing.extend(mismatches.into_iter().map(|why| format!("topology: {why}")));
        Ready {
            ready: missing.is_empty(),
            broker_connected: parts.is_connected,
            topology_declared,
            consumers,
            paused: parts.paused,
            missing,
        }
    }
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    readiness: Readiness,
    ledger: Ledger,
}

/// Serves until the token is cancelled.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    ledger: Ledger,
    stop: CancellationToken,
) {
    let app = Router::new()
        .route("/metrics", get(render))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(Shared { metrics, readiness, ledger });
    let served = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the admin server failed");
    }
}

async fn render(State(shared): State<Shared>) -> Response {
    match tokio::time::timeout(CENSUS_TIMEOUT, shared.ledger.census()).await {
        Ok(Ok(census)) => {
            let now = now();
            shared.metrics.counted(&census, |since| now.duration_since(since).as_secs_f64());
        }
        Ok(Err(error)) => tracing::warn!(%error, "the ledger could not be counted"),
        Err(_) => tracing::warn!("the ledger did not answer in time to be counted"),
    }
    match shared.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    let report = shared.readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

#[expect(clippy::disallowed_methods, reason = "a scrape tells how old the oldest is")]
fn now() -> Timestamp {
    Timestamp::now()
}
