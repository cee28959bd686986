//! A stand-in for Eko that costs next to nothing, where `eko-simulator` would be the limit: it
//! refunds whatever is asked, remembers that, and counts.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use axum::body::{Body, Bytes, to_bytes};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// The answers, and the tid in them.
const REFUNDED: &str = include_str!("../../../../tests/fixtures/eko/refund/done.json");
const IS_REFUNDED: &str = include_str!("../../../../tests/fixtures/eko/inquiry/tx_status_4.json");
const IS_PENDING: &str = include_str!("../../../../tests/fixtures/eko/inquiry/tx_status_3.json");
const TID: &str = "13192443";

/// How Eko is for the next worker.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mood {
    /// How long each answer is on its way.
    pub(crate) latency: Duration,
    /// Every refund is executed, and answered 503; an inquiry finds it.
    pub(crate) is_stormy: bool,
}

/// The stand-in, on a thread of its own.
#[derive(Clone)]
pub(crate) struct Eko {
    pub(crate) base_url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    mood: Mood,
    first_call: Option<Instant>,
    refunds: usize,
    tids: HashSet<u64>,
}

impl Eko {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let base_url = format!("http://{}/ekoapi/v3", listener.local_addr()?);
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || runtime.block_on(serve(listener, shared)));
        Ok(Self { base_url, state })
    }

    /// Forgets all refunds.
    pub(crate) fn renew(&self, mood: Mood) {
        *lock(&self.state) = State { mood, ..State::default() };
    }

    /// When the first call came, once exactly so many refunds were made, each of another tid.
    pub(crate) fn first_call(&self, count: usize) -> anyhow::Result<Instant> {
        let state = lock(&self.state);
        let (refunds, tids) = (state.refunds, state.tids.len());
        ensure!(refunds == count && tids == count, "{refunds} refunds of {tids} tids for {count}");
        state.first_call.context("no call came")
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: std::net::TcpListener, state: Arc<Mutex<State>>) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(connection(stream, Arc::clone(&state)));
    }
}

async fn connection(stream: TcpStream, state: Arc<Mutex<State>>) {
    let service = service_fn(|request| answer(request, &state));
    // A connection ends with its worker.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(
    request: Request<Incoming>,
    state: &Mutex<State>,
) -> Result<Response<Body>, Infallible> {
    let is_refund = request.method() == "POST";
    let path = request.uri().path();
    let tid = path.rsplit('/').next().unwrap_or_default().to_owned();
    to_bytes(Body::new(request.into_body()), 1 << 20).await.ok();
    let (mood, text) = {
        let mut state = lock(state);
        state.first_call.get_or_insert_with(Instant::now);
        let number = tid.parse().unwrap_or_default();
        if is_refund {
            state.refunds += 1;
            state.tids.insert(number);
        }
        let is_refunded = state.tids.contains(&number);
        let text = match (is_refund, is_refunded) {
            (true, _) => REFUNDED,
            (false, true) => IS_REFUNDED,
            (false, false) => IS_PENDING,
        };
        (state.mood, text)
    };
    if !mood.latency.is_zero() {
        tokio::time::sleep(mood.latency).await;
    }
    let mut response = Response::new(Body::empty());
    if is_refund && mood.is_stormy {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    } else {
        *response.body_mut() = Body::from(Bytes::from(text.replace(TID, &tid)));
        let json = hyper::header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    }
    Ok(response)
}
