//! What an operator has paused is read from the ledger: before anything is consumed, and every second.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use super::upkeep::{BATCH, PAUSE, PRUNE_EVERY, forget_all};
use crate::worker::Worker;

/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Waits until it is known what is paused, so that a worker that starts during a pause begins no
/// attempt; or until the worker is asked to stop.
pub(super) async fn know(worker: &Worker, stop: &CancellationToken) {
    let mut has_said = false;
    loop {
        let looked = tokio::select! {
            looked = worker.ledger.operator_pauses() => looked,
            () = stop.cancelled() => return,
        };
        match looked {
            Ok(pauses) => {
                worker.breakers.await_ledger(None);
                return worker.note_operator_pauses(pauses);
            }
            Err(error) => {
                if !has_said {
                    tracing::warn!(
                        %error,
                        "the ledger does not say which kinds an operator has paused: waiting to consume"
                    );
                    has_said = true;
                }
                worker.breakers.await_ledger(Some(error.to_string()));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Looks for as long as the process lives. Where the ledger fails, what was known stays.
pub(super) async fn watch(worker: Arc<Worker>) {
    loop {
        tokio::time::sleep(LOOK).await;
        match worker.ledger.operator_pauses().await {
            Ok(pauses) => worker.note_operator_pauses(pauses),
            Err(error) => tracing::debug!(%error, "the pauses of operators could not be read"),
        }
    }
}

/// Forgets the audit of what people did once its time is over, by the time that Eko confirmed.
pub(super) async fn forget_audit(worker: Arc<Worker>, retention: Duration) {
    let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        let Some(now) = worker.agreed_time() else { continue };
        let Ok(before) = now.checked_sub(retention) else {
            return;
        };
        match forget_all(|| worker.ledger.prune_audit(before, BATCH), PAUSE).await {
            Ok(0) => {}
            Ok(forgotten) => tracing::debug!(forgotten, "the oldest audit entries were deleted"),
            Err(error) => tracing::warn!(
                %error,
                "the oldest audit entries could not be deleted: trying again later"
            ),
        }
    }
}
