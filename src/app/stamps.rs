//! Timestamps that run ahead of the clock are reserved in the ledger, so that no later process uses one
//! of them again.

use std::sync::Arc;
use std::time::Duration;

use crate::eko::Client;
use crate::ledger::Ledger;
use crate::worker::Worker;

/// Between tries where the ledger fails: calls wait meanwhile until the clock has caught up.
const AGAIN: Duration = Duration::from_secs(1);

/// Begins behind the timestamps that an earlier process may have used.
pub(super) async fn begin(eko: &Client, ledger: &Ledger) {
    let ceiling = match ledger.stamps_until().await {
        Ok(ceiling) => ceiling,
        Err(error) => {
            // Eko refuses a timestamp that it has seen, and a refund that it refuses so is inquired.
            tracing::warn!(
                %error,
                "the timestamps that an earlier process reserved could not be read"
            );
            None
        }
    };
    eko.start_stamps(ceiling);
}

/// Reserves timestamps whenever some are wanted.
pub(super) async fn reserve(worker: Arc<Worker>) {
    loop {
        let until = worker.eko.wanted_stamps().await;
        match worker.ledger.reserve_stamps(until).await {
            Ok(_) => worker.eko.reserve(until),
            Err(error) => {
                tracing::debug!(%error, "timestamps could not be reserved; the next try follows");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
