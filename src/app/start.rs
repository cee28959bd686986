//! What is waited for before work begins, and what an operator may ask for while it goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Problems;
use crate::backoff::Backoff;
use crate::breaker::Breakers;
use crate::broker;
use crate::credential::{Credential, Refreshed};
use crate::ledger::{Error, Ledger, Opening, Settings};
use crate::worker::Worker;

/// Between tries to open the ledger.
const AGAIN: Backoff = Backoff { initial: Duration::from_millis(250), max: Duration::from_secs(5) };

/// Opens the ledger. A server that is away, or a disk that is full, is no reason to exit: it is
/// waited for. `None` where the worker was asked to stop meanwhile.
///
/// # Errors
/// Where waiting would not help.
pub(super) async fn open_ledger(
    settings: &Settings,
    opening: &Opening,
    breakers: &Breakers,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Ledger>> {
    let mut tries = 0_u32;
    loop {
        let opened = tokio::select! {
            opened = Ledger::open(settings, opening) => opened,
            () = stop.cancelled() => return Ok(None),
        };
        let error = match opened {
            Ok(ledger) => {
                breakers.await_ledger(None);
                return Ok(Some(ledger));
            }
            Err(error) => error,
        };
        let problem = match error.downcast_ref() {
            Some(Error::Away(why) | Error::NotYet(why)) => why.clone(),
            // Another password may be on its way.
            Some(Error::Refused(why)) if settings.url_in_file().is_some() => why.clone(),
            Some(Error::Refused(why) | Error::Unfit(why)) => {
                return Err(Problems(vec![format!("LEDGER_URL: {why}")]).into());
            }
            Some(Error::Store(_) | Error::InUse(_) | Error::Closed) | None => return Err(error),
        };
        tries = tries.saturating_add(1);
        // The first, the second, the fourth and so on: it may last for long.
        if tries.is_power_of_two() {
            tracing::warn!(problem, tries, "waiting for the ledger");
        }
        breakers.await_ledger(Some(problem));
        tokio::select! {
            () = tokio::time::sleep(AGAIN.delay(tries, fastrand::f32().into())) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

/// What is read again on a hangup, and who is told.
pub(super) struct Rereading {
    pub(super) worker: Arc<Worker>,
    pub(super) broker: broker::Settings,
    pub(super) ledger: Settings,
    /// Wakes whoever waits to connect to the broker.
    pub(super) reconnect_now: Arc<Notify>,
}

impl Rereading {
    /// Reads the files of all secrets again whenever a hangup asks for it. A connection that stands is
    /// left alone.
    pub(super) async fn on(self, mut hangups: Signal) {
        while hangups.recv().await.is_some() {
            let ledger = self.ledger.url_in_file().map(Credential::refresh_as_asked);
            let has_files = self.worker.reread_keys_now()
                | (self.broker.urls.refresh_as_asked() != Refreshed::Fixed)
                | ledger.is_some();
            if !has_files {
                tracing::info!(
                    "SIGHUP was received, but no secret is given as a file: nothing was read"
                );
            }
            self.reconnect_now.notify_waiters();
        }
    }
}

/// Names who does the cryptography of TLS: lapin and reqwest would each bring a provider.
pub(crate) fn tls_provider() {
    // A second call in one process finds the first one's provider in place.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// What opening a ledger needs besides its place.
///
/// # Errors
/// Where the system gives no random bytes.
pub(crate) fn opening(retention: Duration) -> anyhow::Result<Opening> {
    Ok(Opening { epoch: fastrand::u32(..), new_key: new_digest_key()?, retention })
}

/// A key for the digests of a ledger that has none yet.
///
/// # Errors
/// Where the system gives no random bytes.
fn new_digest_key() -> anyhow::Result<[u8; 32]> {
    let mut key = [0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut key)
        .map_err(|_| anyhow::anyhow!("the system provides no random bytes"))?;
    Ok(key)
}
