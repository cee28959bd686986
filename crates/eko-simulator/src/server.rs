//! Connections in, answers out, in whatever way the answer is to be brought.

use std::convert::Infallible;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Response, request::Parts};
use futures_util::stream;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::answers::{Delivery, Reply};
use crate::call::{self, Endpoint, Request, Route};
use crate::control;
use crate::eko::{self, Decision};
use crate::socket::{Socket, Wire};
use crate::state::State;

/// A larger request is no request to Eko.
const BODY_LIMIT: usize = 1 << 20;

/// Time between two bytes of a slow answer.
const SLOW_BYTE: Duration = Duration::from_millis(100);

/// How long calls in flight may take to end at a stop; silent ones never would.
const GRACE: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Clone)]
pub(crate) struct Shared {
    state: Arc<Mutex<State>>,
    verbose: bool,
}

impl Shared {
    /// Shares a state.
    pub(crate) fn new(state: State, verbose: bool) -> Self {
        Self { state: Arc::new(Mutex::new(state)), verbose }
    }

    /// The state, for a moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until told to stop, then lets what is in flight end for a moment.
pub(crate) async fn serve(listener: TcpListener, shared: Shared, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, shared.clone(), stop.clone()));
                }
                // Out of file descriptors: until a connection ends, trying again would spin.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
    connections.close();
    tokio::time::timeout(GRACE, connections.wait()).await.ok();
}

async fn connection(stream: TcpStream, shared: Shared, stop: CancellationToken) {
    stream.set_nodelay(true).ok();
    let wire = Arc::new(Wire::default());
    let io = TokioIo::new(Socket::new(stream, Arc::clone(&wire)));
    let service = service_fn(move |request| respond(request, shared.clone(), Arc::clone(&wire)));
    let serving = http1::Builder::new().timer(TokioTimer::new()).serve_connection(io, service);
    let mut serving = std::pin::pin!(serving);
    // How a connection ends is the client's business, or a fault that was asked for.
    tokio::select! {
        ended = serving.as_mut() => drop(ended),
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await.ok();
        }
    }
}

/// Answers one request; an error ends the connection.
async fn respond(
    request: hyper::Request<Incoming>,
    shared: Shared,
    wire: Arc<Wire>,
) -> Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let names = wire.take_names(&parts.headers);
    let body = to_bytes(Body::new(body), BODY_LIMIT).await?;
    wire.clear();
    let path = parts.uri.path();
    if path.starts_with("/control/") || path == "/state" || path.starts_with("/state/") {
        let reply = control::answer(&mut shared.lock(), &parts.method, path, &body);
        return Ok(response(reply, None));
    }
    let request = whole(parts, names, &body);
    let _presence = Presence::of(&request, &shared);
    let (decision, latency_ms, now_ms) = {
        let mut state = shared.lock();
        let now_ms = wall_ms().saturating_add_signed(state.clock_offset_ms);
        (eko::decide(&mut state, &request, now_ms), state.latency_ms, now_ms)
    };
    let Decision { reply, delay_ms, late, note } = decision;
    if shared.verbose {
        let Request { method, path, .. } = &request;
        let (http, delivery) = (reply.http, reply.delivery);
        writeln!(io::stderr(), "{method} {path} -> {http} {delivery:?}: {note}").ok();
    }
    if let Some(late) = late {
        let shared = shared.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(late.after_ms)).await;
            let mut state = shared.lock();
            let now_ms = wall_ms().saturating_add_signed(state.clock_offset_ms);
            late.happen(&mut state, now_ms);
        });
    }
    // The effect is there and its answer is still on its way: the harder order for a client.
    let wait_ms = latency_ms.saturating_add(delay_ms);
    if wait_ms > 0 {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
    match reply.delivery {
        Delivery::Never => std::future::pending().await,
        Delivery::Reset => {
            wire.reset_at_end();
            bail!("this connection is to be reset")
        }
        Delivery::Whole | Delivery::Cut | Delivery::Slow => {
            let mut response = response(reply, Some(&request.path));
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(now_ms));
            response.headers_mut().insert("date", date.parse()?);
            Ok(response)
        }
    }
}

fn whole(parts: Parts, names: Vec<String>, body: &Bytes) -> Request {
    Request {
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or("").to_owned(),
        method: parts.method,
        headers: parts.headers,
        names,
        body: body.to_vec(),
    }
}

fn response(reply: Reply, location: Option<&str>) -> Response<Body> {
    let mut response =
        Response::builder().status(reply.http).header("content-type", reply.content_type);
    if let Some(retry_after) = &reply.retry_after {
        response = response.header("retry-after", retry_after);
    }
    if let Some(location) = location.filter(|_| reply.redirects) {
        response = response.header("location", location);
    }
    let body = match reply.delivery {
        Delivery::Cut => {
            response = response.header("content-length", reply.body.len() + 100);
            cut(reply.body)
        }
        Delivery::Slow => {
            response = response.header("content-length", reply.body.len());
            slow(reply.body)
        }
        _ => Body::from(reply.body),
    };
    // Only a Retry-After given over the control endpoint can be no header value.
    response.body(body).unwrap_or_else(|error| {
        let mut response = Response::new(Body::from(error.to_string()));
        *response.status_mut() = axum::http::StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// A body that breaks off; the pause lets its beginning leave before the connection ends.
fn cut(bytes: Vec<u8>) -> Body {
    Body::from_stream(stream::unfold(Some(bytes), |state| async move {
        if let Some(bytes) = state
            && !bytes.is_empty()
        {
            return Some((Ok(bytes), Some(Vec::new())));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Err(io::Error::other("the body breaks off here")), None))
    }))
}

fn slow(bytes: Vec<u8>) -> Body {
    Body::from_stream(stream::unfold(bytes.into_iter(), |mut rest| async move {
        let byte = rest.next()?;
        tokio::time::sleep(SLOW_BYTE).await;
        Some((Ok::<_, Infallible>(vec![byte]), rest))
    }))
}

/// Counts a call as in flight until it is answered or its client has gone.
struct Presence {
    shared: Shared,
    refund: Option<String>,
}

impl Presence {
    fn of(request: &Request, shared: &Shared) -> Self {
        let refund = match call::route(&request.method, &request.path) {
            Route::To(Endpoint::Refund, tid) if call::is_tid(tid) => {
                Some(call::as_integer(tid).to_owned())
            }
            _ => None,
        };
        shared.lock().enter(refund.as_deref());
        Self { shared: shared.clone(), refund }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.shared.lock().leave(self.refund.as_deref());
    }
}

#[expect(clippy::disallowed_methods, reason = "the stand-in for Eko has a clock of its own")]
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
