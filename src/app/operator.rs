//! What an operator has paused is read from the ledger: before anything is consumed, and every second.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

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
