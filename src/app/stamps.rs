//! The timestamps of calls are taken from the ledger in blocks, beside the commands.

use std::sync::Arc;
use std::time::Duration;

use crate::ledger::{Error, SlotBlock, SlotRequest};
use crate::worker::Worker;

/// Between tries where the ledger fails.
const AGAIN: Duration = Duration::from_secs(1);

/// Between tries where all timestamps that may be taken now are taken.
const FULL: Duration = Duration::from_millis(100);

/// A ledger that answers later holds up calls.
const SLOW: Duration = Duration::from_secs(1);

/// Takes a block of timestamps whenever one is wanted: the first one at once.
pub(super) async fn take(worker: Arc<Worker>) {
    let timestamps = worker.breakers.timestamps();
    loop {
        let want = timestamps.wanted().await;
        let key = worker.eko.key_fingerprint(|key| worker.ledger.digest(key));
        let request = want.request(key);
        let wanted = request.count;
        match take_block(&worker, request).await {
            Ok(block) => {
                timestamps.grant(want, block);
                if block.count == 0 {
                    worker.tell_full();
                }
                // What comes free meanwhile comes in one block.
                if block.count < wanted {
                    tokio::time::sleep(FULL).await;
                }
            }
            // Without timestamps nothing can be called: who waits for one is told so.
            Err(error) => {
                worker.pause_for_ledger(&error);
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn take_block(worker: &Worker, request: SlotRequest) -> Result<SlotBlock, Error> {
    let taken = worker.ledger.take_slots(request);
    tokio::pin!(taken);
    tokio::select! {
        taken = &mut taken => return taken,
        () = tokio::time::sleep(SLOW) => {}
    }
    tracing::warn!(
        "waiting for the ledger: it gives the timestamps of calls, and has not answered"
    );
    taken.await
}
