//! The register in the broker: how often the ledger had committed, so that a ledger that has
//! forgotten is noticed.

use std::time::Duration;

use super::Keeper;
use crate::broker::{Error, Pairing, Read, Register};
use crate::ledger::{self, Identity};
use crate::worker::Worker;

/// How long the last word may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Before an empty register is believed: another worker of the ledger may just have made it.
const BELIEVE: Duration = Duration::from_secs(1);

impl Keeper {
    /// Whether the register knows of more commits than the ledger; what it says.
    pub(super) async fn compare(&self, pairing: &Pairing) -> Result<Read, Error> {
        let ledger = &self.worker.ledger;
        let id = &ledger.identity().id;
        let register = pairing.read().await?;
        // A ledger that fails is said elsewhere.
        let Ok(commits) = ledger.commits().await else { return Ok(register) };
        if let Read::Says(Register { ledger: of, commits: known }) = &register
            && of == id
            && *known > commits
        {
            tracing::error!(
                acknowledged = known,
                found = commits,
                missing = known - commits,
                "the ledger has forgotten what it had committed: an older copy was restored, or a \
                 server without its last commits took over; refunds that it does not know are \
                 inquired first until LEDGER_RETENTION has passed; see the runbook"
            );
            self.forget().await?;
        }
        Ok(register)
    }

    /// Where the queues were this ledger's before the start and the register says nothing of it,
    /// nobody can tell an older copy that was restored: the ledger is taken for one.
    pub(super) async fn doubt_empty(&self, pairing: &Pairing, read: &Read) -> Result<(), Error> {
        let Identity { id, is_new, .. } = self.worker.ledger.identity();
        if *is_new || !says_nothing(read, id) {
            return Ok(());
        }
        tokio::time::sleep(BELIEVE).await;
        if !says_nothing(&pairing.read().await?, id) {
            return Ok(());
        }
        tracing::error!(
            prefix = self.prefix,
            ledger = id,
            "the queue {}.ledger, which had this ledger's commits, says nothing of it: it was \
             purged, deleted or lost, and an older copy of the ledger would not be noticed; refunds \
             that the ledger does not know are inquired first until LEDGER_RETENTION has passed; \
             see the runbook",
            self.prefix
        );
        self.forget().await
    }

    async fn forget(&self) -> Result<(), Error> {
        // Without that note nobody would be cautious: the next session looks again.
        let lost = |error| Error::Lost(format!("the ledger cannot be written: {error}"));
        self.worker.ledger.forget().await.map(drop).map_err(lost)
    }

    /// Tells the register how often the ledger has committed, where that has changed.
    pub(super) async fn note(
        &self,
        pairing: &Pairing,
        written: &mut Option<u64>,
    ) -> Result<(), Error> {
        let ledger = &self.worker.ledger;
        match ledger.commits().await {
            Ok(commits) => {
                self.worker.ledger_answers();
                if *written != Some(commits) {
                    write(pairing, &ledger.identity().id, commits).await?;
                    *written = Some(commits);
                }
            }
            Err(error @ (ledger::Error::Away(_) | ledger::Error::Closed)) => {
                tracing::debug!(%error, "the ledger did not tell its commits");
            }
            // Also where nothing is claimed: its file may be gone, or its server refuse us.
            Err(error) => self.worker.close_for_ledger(&error),
        }
        Ok(())
    }
}

/// Tells the register a last time, where the worker stops.
pub(in crate::app) async fn end(worker: &Worker, pairing: &Pairing) {
    let last = async {
        let commits = worker.ledger.commits().await.ok()?;
        write(pairing, &worker.ledger.identity().id, commits).await.ok()
    };
    if worker.mispaired().is_none() && tokio::time::timeout(GOODBYE, last).await.is_err() {
        tracing::debug!("the register was not written at the end");
    }
}

async fn write(pairing: &Pairing, id: &str, commits: u64) -> Result<(), Error> {
    let register = Register { ledger: id.to_owned(), commits };
    if !pairing.write(&register).await? {
        tracing::debug!("the broker has no register for the ledger's commits");
    }
    Ok(())
}

/// Whether the register names no commits of a ledger, though it may be read.
fn says_nothing(read: &Read, id: &str) -> bool {
    match read {
        Read::Says(register) => register.ledger != id,
        Read::Nothing => true,
        Read::Refused => false,
    }
}
