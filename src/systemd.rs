//! What systemd is told where it started the worker (`Type=notify`): ready, stopping, alive.
//! Started otherwise, nobody is told anything.

use sd_notify::NotifyState;

use crate::admin::Heartbeat;

/// The worker runs. That a broker is away is no reason to be started again, so it is not waited
/// for.
pub(crate) fn ready() {
    tell(NotifyState::Ready);
}

/// The worker ends in good order, which may take as long as the grace time.
pub(crate) fn stopping() {
    tell(NotifyState::Stopping);
}

/// Tells the watchdog that the event loop turns, twice as often as it asks for. To be run outside
/// of that loop: when it is stuck, nothing more is told, and systemd starts the worker again.
pub(crate) async fn keep_watch(heartbeat: Heartbeat) {
    let Some(timeout) = sd_notify::watchdog_enabled() else { return };
    loop {
        if heartbeat.age().is_ok() {
            tell(NotifyState::Watchdog);
        }
        tokio::time::sleep(timeout / 2).await;
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}
