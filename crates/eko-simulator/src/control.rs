//! `/control`, which orders what shall happen, and `/state`, which tells what did.

use axum::http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::answers::Reply;
use crate::call::{self, Endpoint};
use crate::faults::{Fault, ROWS};
use crate::plan::{Details, Order};
use crate::signature::Keys;
use crate::state::State;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultOrder {
    tid: Option<String>,
    endpoint: Option<Endpoint>,
    fault: String,
    times: Option<u32>,
    after_ms: Option<u64>,
    probability: Option<f64>,
    retry_after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Transaction {
    tid: String,
    tx_status: u8,
    otp: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Latency {
    ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Clock {
    offset_ms: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKeys {
    developer_key: String,
    access_key: String,
    http: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Careless {
    careless: bool,
}

/// Answers a request to `/control/…` or `/state…`.
pub(crate) fn answer(state: &mut State, method: &Method, path: &str, body: &[u8]) -> Reply {
    if *method == Method::GET {
        return tell(state, path);
    }
    let done = match (method.as_str(), path) {
        ("POST", "/control/fault") => read(body).and_then(|order| add_fault(state, order)),
        ("DELETE", "/control/faults") => {
            state.plan.clear();
            Ok(())
        }
        ("POST", "/control/transaction") => read(body).and_then(|tx| set_transaction(state, tx)),
        ("POST", "/control/latency") => read(body).map(|Latency { ms }| state.latency_ms = ms),
        ("POST", "/control/clock") => {
            read(body).map(|Clock { offset_ms }| state.clock_offset_ms = offset_ms)
        }
        ("POST", "/control/keys") => {
            read(body).map(|NewKeys { developer_key, access_key, http }| {
                state.keys = Keys::new(&developer_key, &access_key);
                state.refused_with = http.unwrap_or(401);
            })
        }
        ("POST", "/control/careless") => {
            read(body).map(|Careless { careless }| state.careless = careless)
        }
        _ => return missing(),
    };
    match done {
        Ok(()) => Reply::json(200, &json!({"ok": true})),
        Err(problem) => Reply::json(400, &json!({"error": problem})),
    }
}

fn tell(state: &State, path: &str) -> Reply {
    match path {
        "/state" => Reply::json(200, &state.whole()),
        "/state/summary" => Reply::json(200, &state.summary()),
        "/control/faults" => Reply::json(200, &table()),
        _ => {
            let tid = path.strip_prefix("/state/");
            tid.and_then(|tid| state.one(call::as_integer(tid)))
                .map_or_else(missing, |one| Reply::json(200, &one))
        }
    }
}

fn missing() -> Reply {
    Reply::json(404, &json!({"error": "there is nothing here"}))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn add_fault(state: &mut State, order: FaultOrder) -> Result<(), String> {
    let fault = Fault::from_name(&order.fault)
        .ok_or_else(|| format!("fault: {} is not a name of the table", order.fault))?;
    if let Some(text) = &order.retry_after
        && axum::http::HeaderValue::from_str(text).is_err()
    {
        return Err("retry_after: is not a header value".to_owned());
    }
    let probability = order.probability.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&probability) {
        return Err("probability: is not between 0 and 1".to_owned());
    }
    if order.times == Some(0) {
        return Err("times: is 0; leave it out for ever".to_owned());
    }
    let details = Details { after_ms: order.after_ms, retry_after: order.retry_after };
    let tid = order.tid.as_deref().map(|tid| call::as_integer(tid).to_owned());
    let (endpoint, times) = (order.endpoint, order.times);
    state.plan.add(Order { tid, endpoint, fault, times, probability, details });
    Ok(())
}

fn set_transaction(state: &mut State, wanted: Transaction) -> Result<(), String> {
    if !call::is_tid(&wanted.tid) {
        return Err("tid: is not 1 to 19 digits".to_owned());
    }
    let record = state.record(call::as_integer(&wanted.tid), Endpoint::Refund);
    record.tx_status = Some(wanted.tx_status);
    record.otp = wanted.otp;
    Ok(())
}

fn table() -> Value {
    let rows = ROWS.iter().map(|row| {
        let on: Vec<_> = row.on.iter().map(|endpoint| endpoint.as_str()).collect();
        json!({"code": row.code, "name": row.name, "endpoints": on, "tells": row.tells})
    });
    rows.collect()
}
