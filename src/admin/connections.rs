//! The connections of the admin server. Their number and their time are bounded: whoever opens many, or
//! asks nothing on them, takes nothing that the worker needs.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How many connections there are at most: many more than probes, scrapes and people need, and few
/// of the file descriptors that a process usually has.
const MOST: usize = 32;

/// How long a request's head may take, and how long a connection may wait for its next request.
const HEAD: Duration = Duration::from_secs(5);

/// How large a request's head may be, in bytes.
const HEAD_BYTES: usize = 16 * 1_024;

/// Before another try where the system gives no connection.
const AGAIN: Duration = Duration::from_millis(100);

/// Serves `app` until asked to stop; then answers that are under way are still given.
pub(super) async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) {
    let mut connections = Connections { open: VecDeque::new(), app, stop };
    let mut failures = 0_u32;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                failures = 0;
                connections.add(stream);
            }
            Err(error) if is_of_one_connection(&error) => {}
            // As a rule the process has no file descriptors left.
            Err(error) => {
                failures = failures.saturating_add(1);
                if failures.is_power_of_two() {
                    tracing::warn!(%error, failures, "the admin server cannot take a connection");
                }
                connections.end_oldest();
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
    for connection in connections.open {
        connection.await.ok();
    }
}

/// Whether the connection was gone before it could be taken.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

struct Connections {
    /// Oldest first.
    open: VecDeque<JoinHandle<()>>,
    app: Router,
    stop: CancellationToken,
}

impl Connections {
    /// Serves one more. Where there are too many, the oldest ends: a probe that has just come asks at
    /// once and is answered.
    fn add(&mut self, stream: TcpStream) {
        self.open.retain(|connection| !connection.is_finished());
        if self.open.len() >= MOST {
            self.end_oldest();
        }
        self.open.push_back(tokio::spawn(answer(stream, self.app.clone(), self.stop.clone())));
    }

    fn end_oldest(&mut self) {
        if let Some(oldest) = self.open.pop_front() {
            oldest.abort();
        }
    }
}

async fn answer(stream: TcpStream, app: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the admin server ended");
    }
}
