//! The register in the broker: how often the ledger had committed, so that a ledger that has
//! forgotten is noticed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Keeper, outdated};
use crate::breaker::Mispaired;
use crate::broker::{Error, Pairing, Read, Register};
use crate::ledger::{self, Identity, Meta};

/// How long the last word may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long the workers of an old server are given to stop: they look every second. Two workers that know
/// nothing of each other's commands would tell two events of one.
const LEAVE: Duration = Duration::from_secs(2);

/// Before an empty register is believed: another worker of the ledger may just have made it.
const BELIEVE: Duration = Duration::from_secs(1);

impl Keeper {
    /// What the register says, unless it names a server that has taken over from this worker's. Where it
    /// knows of more commits than the ledger, or this worker's server has taken over since it was
    /// written, the ledger is taken for one that has forgotten.
    pub(super) async fn compare(
        &self,
        pairing: &Pairing,
    ) -> Result<Result<Read, Mispaired>, Error> {
        let ledger = &self.worker.ledger;
        // Read first: a server that took over between the two is this worker's.
        let read = pairing.read().await?;
        self.is_unreadable.store(!matches!(read, Read::Says(_)), Ordering::Relaxed);
        let Ok(meta) = ledger.meta().await else {
            // A ledger that fails is said elsewhere. Which server will answer is not known yet.
            let is_old = |problem: &Mispaired| matches!(problem, Mispaired::OldPrimary(_));
            return Ok(self.worker.breakers.mispaired().filter(is_old).map_or(Ok(read), Err));
        };
        let Some(known) = read.of(&ledger.identity().id) else { return Ok(Ok(read)) };
        if known.is_newer_than(meta.timeline) {
            return Ok(Err(self.old_primary(known, &meta)));
        }
        let took_over = known.is_older_than(meta.timeline);
        let is_missing = known.commits > meta.commits;
        if is_missing {
            tracing::error!(
                acknowledged = known.commits,
                found = meta.commits,
                missing = known.commits - meta.commits,
                "the ledger has lost commits: an older copy was restored, or a server without its \
                 last commits took over; refunds that it does not know are inquired first until \
                 LEDGER_RETENTION has passed; see the runbook"
            );
            self.doubted.store(meta.timeline.unwrap_or_default(), Ordering::Relaxed);
            self.forget().await?;
        } else if took_over || known.is_split {
            self.doubt(known, &meta).await?;
        }
        if took_over || known.is_split {
            // Workers on the old server stop when they read it.
            write(pairing, &self.register(&meta, None)).await?;
            tokio::time::sleep(LEAVE).await;
        }
        Ok(Ok(read))
    }

    fn old_primary(&self, known: &Register, meta: &Meta) -> Mispaired {
        let place = &self.worker.ledger.identity().place;
        Mispaired::OldPrimary(outdated(place, meta.timeline, known.timeline))
    }

    /// What is to be written. Where the server does not tell its timeline, the one that is known stays.
    fn register(&self, meta: &Meta, known: Option<&Register>) -> Register {
        Register {
            ledger: self.worker.ledger.identity().id.clone(),
            commits: meta.commits,
            timeline: meta.timeline.or_else(|| known.and_then(|known| known.timeline)),
            is_split: false,
        }
    }

    /// Workers may have gone on with the server that this worker's has taken over from: what they began
    /// there is not known here.
    async fn doubt(&self, known: &Register, meta: &Meta) -> Result<(), Error> {
        let timeline = meta.timeline.unwrap_or_default();
        if self.doubted.swap(timeline, Ordering::Relaxed) == timeline {
            return Ok(());
        }
        tracing::error!(
            before = known.timeline.filter(|_| !known.is_split),
            timeline,
            "another PostgreSQL server has taken over the ledger, and workers may still have used \
             the old one: refunds that it does not know are inquired first until LEDGER_RETENTION \
             has passed; see the runbook"
        );
        let noted = self.forget().await;
        if noted.is_err() {
            self.doubted.store(0, Ordering::Relaxed);
        }
        noted
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
            "the queue {}.ledger has lost the record of this ledger's commits: it was purged, \
             deleted or lost, so an older copy of the ledger would not be noticed; refunds that \
             the ledger does not know are inquired first until LEDGER_RETENTION has passed; see \
             the runbook",
            self.prefix
        );
        self.forget().await
    }

    async fn forget(&self) -> Result<(), Error> {
        // Without that note nobody would be cautious: the next session looks again.
        let lost = |error| Error::Lost(format!("the ledger cannot be written: {error}"));
        self.worker.ledger.forget().await.map(drop).map_err(lost)
    }

    /// Tells the register how often the ledger has committed, where that has changed; pauses all
    /// kinds where the register names a server that has taken over from this worker's.
    pub(super) async fn note(
        &self,
        pairing: &Pairing,
        written: &mut Option<Register>,
    ) -> Result<(), Error> {
        let ledger = &self.worker.ledger;
        // Read first: a server that took over between the two is this worker's.
        let read = self.read(pairing).await?;
        match ledger.meta().await {
            Ok(meta) => {
                self.worker.breakers.ledger_answers();
                self.renew(pairing, (read.as_ref(), &meta), written).await?;
            }
            Err(error @ (ledger::Error::Away(_) | ledger::Error::Closed)) => {
                tracing::debug!(%error, "the ledger's commits could not be read");
            }
            // Also where nothing is claimed: its file may be gone, or its server refuse us.
            Err(error) => self.worker.pause_for_ledger(&error),
        }
        Ok(())
    }

    /// What the register says, where it matters which server wrote it.
    async fn read(&self, pairing: &Pairing) -> Result<Option<Read>, Error> {
        if self.worker.ledger.identity().serves_one || self.is_unreadable.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let read = pairing.read().await?;
        self.is_unreadable.store(matches!(read, Read::Refused), Ordering::Relaxed);
        Ok(Some(read))
    }

    async fn renew(
        &self,
        pairing: &Pairing,
        (read, meta): (Option<&Read>, &Meta),
        written: &mut Option<Register>,
    ) -> Result<(), Error> {
        let known = read.and_then(|read| read.of(&self.worker.ledger.identity().id));
        if let Some(known) = known.filter(|known| known.is_newer_than(meta.timeline)) {
            let is_known = self.worker.breakers.mispaired().is_some();
            self.show(Some(self.old_primary(known, meta)));
            if !is_known {
                // What this worker has begun meanwhile, the other server does not know.
                write(pairing, &Register { is_split: true, ..known.clone() }).await?;
            }
            return Ok(());
        }
        let register = self.register(meta, known);
        if let Some(known) = known
            && shows_split(known, meta, written.as_ref())
        {
            self.doubt(known, meta).await?;
        }
        let is_there = match read {
            None | Some(Read::Refused) => true,
            Some(_) => {
                known.is_some_and(|known| known.timeline == register.timeline && !known.is_split)
            }
        };
        if !is_there || written.as_ref() != Some(&register) {
            let is_written = write(pairing, &register).await?;
            let is_refused = matches!(read, Some(Read::Refused));
            self.is_unreadable.store(!is_written || is_refused, Ordering::Relaxed);
            *written = Some(register);
        }
        Ok(())
    }
}

/// Whether somebody has gone on with the server that this worker's has taken over from: it says so, or had
/// committed more there, or has written over what this worker wrote.
fn shows_split(known: &Register, meta: &Meta, written: Option<&Register>) -> bool {
    let is_over_ours = || written.is_some_and(|written| written.timeline == meta.timeline);
    let is_older = known.is_older_than(meta.timeline);
    known.is_split || is_older && (known.commits > meta.commits || is_over_ours())
}

/// Tells the register a last time, where the worker stops.
pub(in crate::app) async fn end(keeper: &Keeper, pairing: &Pairing) {
    let last = async {
        let read = keeper.read(pairing).await.ok()?;
        let meta = keeper.worker.ledger.meta().await.ok()?;
        keeper.renew(pairing, (read.as_ref(), &meta), &mut None).await.ok()
    };
    if keeper.worker.breakers.mispaired().is_none()
        && tokio::time::timeout(GOODBYE, last).await.is_err()
    {
        tracing::debug!("the ledger's register in the broker was not written at the stop");
    }
}

/// Writes; whether there is a register.
async fn write(pairing: &Pairing, register: &Register) -> Result<bool, Error> {
    let is_written = pairing.write(register).await?;
    if !is_written {
        tracing::debug!("the broker has no register of the ledger's commits");
    }
    Ok(is_written)
}

/// Whether the register names no commits of a ledger, though it may be read.
fn says_nothing(read: &Read, id: &str) -> bool {
    read.of(id).is_none() && !matches!(read, Read::Refused)
}
