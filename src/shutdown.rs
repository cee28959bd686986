//! Signals → one token: the first asks to stop in order, the second ends at once. A hangup asks
//! for something else, and never ends the process.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::log;

/// Exit code of a process that did not end by itself.
const ENDED_AT_ONCE: i32 = 1;

/// How long the last steps may take after `SHUTDOWN_GRACE`: goodbyes to broker, collector and log.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// A token that SIGTERM or SIGINT cancels. A second signal ends the process at once, and so does the
/// time, if the process has not ended by itself after `grace` and the last steps. A thread of its own
/// sees to it, whatever the event loop of the worker does.
///
/// # Errors
/// Where the signals cannot be listened to.
pub(crate) fn on_signal(grace: Duration) -> std::io::Result<CancellationToken> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut term, mut int) = {
        let _within = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let token = CancellationToken::new();
    let stop = token.clone();
    let watch = async move {
        either(&mut term, &mut int).await;
        tracing::info!("asked to stop: finishing the calls in flight");
        stop.cancel();
        let timeout = grace.saturating_add(LAST_STEPS);
        match tokio::time::timeout(timeout, either(&mut term, &mut int)).await {
            Ok(()) => tracing::warn!(
                "asked to stop again: ending at once; commands in flight are settled after the \
                 next start"
            ),
            Err(_) => tracing::error!(
                seconds = timeout.as_secs(),
                "the worker did not stop within its time: ending at once; commands in flight are \
                 settled after the next start"
            ),
        }
        log::end();
        std::process::exit(ENDED_AT_ONCE);
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(watch))?;
    Ok(token)
}

/// Hangups from now on, which would end the process if nobody listened.
///
/// # Errors
/// Where the signal cannot be listened to.
pub(crate) fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
