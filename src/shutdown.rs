//! Signals → one token: the first asks to stop in order, the second ends at once. A hangup asks
//! for something else, and never ends the process.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::log;

/// Exit code of a process that a second signal ended.
const ENDED_AT_ONCE: i32 = 1;

/// A token that SIGTERM or SIGINT cancels.
///
/// # Errors
/// Where the signals cannot be listened to.
pub(crate) fn on_signal() -> std::io::Result<CancellationToken> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        either(&mut term, &mut int).await;
        tracing::info!("asked to stop: finishing what is in flight");
        stop.cancel();
        either(&mut term, &mut int).await;
        tracing::warn!("asked to stop again: ending at once; what is in flight is settled later");
        log::end();
        std::process::exit(ENDED_AT_ONCE);
    });
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
