//! Queues and ledger stay together: whose the prefix is, and whether the ledger has forgotten.

mod holder;
mod register;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::breaker::Mispaired;
use crate::broker::{Error, Paired, Pairing, Read};
use crate::ledger::Identity;
use crate::metrics::Metrics;
use crate::worker::Worker;
pub(super) use register::end;

/// How often ledger and pairing are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Every so manieth look the register is written anew, also where nothing has changed: it may have
/// been emptied, and each message bears a limited number of looks.
const REWRITE: u32 = 3_600;

/// A user who may not declare looks every so manieth time: the broker logs each refusal.
const SELDOM: u32 = 60;

/// Between looks while the prefix belongs to another ledger: a person has to settle that.
const RECHECK: Backoff = Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(30) };

/// Keeps the pairing of the prefix with this worker's ledger.
pub(super) struct Keeper {
    pub(super) worker: Arc<Worker>,
    pub(super) prefix: String,
    /// `LEDGER_ADOPT`.
    pub(super) adopts: bool,
    has_warned: AtomicBool,
    /// Whether it was said that nobody holds the queues.
    has_said_unheld: AtomicBool,
    /// Whether this process has made the pairing, so that nothing was registered before.
    has_paired: AtomicBool,
    /// Whether the register cannot be read: the broker logs each try.
    is_unreadable: AtomicBool,
    /// The timeline for which this process has noted that attempts may be lacking.
    doubted: AtomicU32,
}

impl Keeper {
    pub(super) const fn new(worker: Arc<Worker>, prefix: String, adopts: bool) -> Self {
        Self {
            worker,
            prefix,
            adopts,
            has_warned: AtomicBool::new(false),
            has_said_unheld: AtomicBool::new(false),
            has_paired: AtomicBool::new(false),
            is_unreadable: AtomicBool::new(false),
            doubted: AtomicU32::new(0),
        }
    }

    /// Pairs the prefix with the ledger where a worker starts, or takes it over where that was asked
    /// for; what is wrong where it belongs to another one.
    ///
    /// # Errors
    /// Where the broker fails.
    pub(super) async fn begin(&self, pairing: &Pairing) -> Result<Option<Mispaired>, Error> {
        let id = &self.worker.ledger.identity().id;
        let mut paired = pairing.look(id).await?;
        if paired == Paired::Nobody {
            self.has_paired.store(true, Ordering::Relaxed);
            paired = pairing.claim(id).await?;
        }
        if let Paired::Other(other) = &paired
            && self.adopts
        {
            self.take_over(pairing, other).await?;
            self.has_paired.store(true, Ordering::Relaxed);
            paired = Paired::Ours;
        }
        if let Paired::Other(other) = paired {
            return Ok(Some(self.mispaired(&other)));
        }
        if let Some(problem) = self.hold_at_start(pairing).await? {
            return Ok(Some(problem));
        }
        // Another ledger may have taken over while this one waited.
        if !pairing.is_limited() {
            paired = pairing.claim(id).await?;
        }
        let was_ours = paired == Paired::Ours && !self.has_paired.load(Ordering::Relaxed);
        match self.settle(pairing, paired).await? {
            Err(problem) => Ok(Some(problem)),
            Ok(register) => {
                if was_ours {
                    self.doubt_empty(pairing, &register).await?;
                }
                Ok(None)
            }
        }
    }

    /// Looks whose the prefix is where a session begins anew, and pauses all kinds where it belongs
    /// to another ledger, or another worker holds them.
    ///
    /// # Errors
    /// Where the broker fails.
    pub(super) async fn meet(&self, pairing: &Pairing) -> Result<(), Error> {
        let paired = pairing.claim(&self.worker.ledger.identity().id).await?;
        let held = match paired {
            Paired::Other(_) => None,
            Paired::Ours | Paired::Nobody | Paired::Unknown => self.hold(pairing).await?,
        };
        let problem = match held {
            Some(problem) => Some(problem),
            None => self.settle(pairing, paired).await?.err(),
        };
        self.show(problem);
        Ok(())
    }

    /// The ledger first: what it does not know is doubted also if the second step is never made.
    async fn take_over(&self, pairing: &Pairing, other: &str) -> Result<(), Error> {
        let Identity { id, place, .. } = self.worker.ledger.identity();
        let lost = |error| Error::Lost(format!("this ledger cannot be written: {error}"));
        self.worker.ledger.adopt().await.map_err(lost)?;
        pairing.take_over(id).await?;
        tracing::warn!(
            prefix = self.prefix,
            other,
            ledger = id,
            place,
            "this ledger has taken over the queues from another one, as LEDGER_ADOPT asks: refunds \
             that it does not know are inquired first until LEDGER_RETENTION has passed; remove \
             LEDGER_ADOPT now"
        );
        Ok(())
    }

    /// What follows from whom the prefix belongs to: what the register says, or what is wrong, where
    /// that is another ledger.
    async fn settle(
        &self,
        pairing: &Pairing,
        paired: Paired,
    ) -> Result<Result<Read, Mispaired>, Error> {
        match paired {
            Paired::Other(other) => return Ok(Err(self.mispaired(&other))),
            Paired::Unknown if !self.has_warned.swap(true, Ordering::Relaxed) => tracing::warn!(
                prefix = self.prefix,
                "the worker cannot check whether this ledger belongs to these queues: give the \
                 user of AMQP_URL the configure permission for exchange and queue {}.ledger, with \
                 read and write for the exchange; or at least the read permission for the queue",
                self.prefix
            ),
            Paired::Unknown | Paired::Nobody | Paired::Ours => {}
        }
        pairing.prepare().await?;
        self.compare(pairing).await
    }

    /// Pauses all kinds for as long as the prefix belongs to another ledger, another worker holds
    /// it, or another server took over as the ledger's.
    fn show(&self, problem: Option<Mispaired>) {
        match (self.worker.breakers.mispaired(), &problem) {
            (Some(Mispaired::OldPrimary(_)), Some(Mispaired::OldPrimary(_))) => {}
            (_, Some(Mispaired::OldPrimary(why))) => {
                tracing::error!(
                    why,
                    "another PostgreSQL server has taken over the ledger: consumption is paused"
                );
                self.worker.metrics.forgot(1);
            }
            (None, Some(Mispaired::HeldElsewhere(why))) => {
                tracing::warn!(why, "waiting to consume");
            }
            (None, Some(Mispaired::OtherLedger(why))) => {
                tracing::error!(why, "the queues belong to another ledger: consumption is paused");
            }
            (Some(_), None) => {
                tracing::info!("the queues belong to this ledger again: consumption resumes");
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        self.worker.pair(problem);
    }

    /// Looks at ledger and pairing for as long as the session lasts.
    pub(super) async fn keep(self: Arc<Self>, pairing: Pairing) {
        let (mut written, mut looks) = (None, 0_u32);
        let mut strange = u32::from(self.worker.breakers.mispaired().is_some());
        loop {
            let looked = match strange {
                0 => self.note(&pairing, &mut written).await,
                _ => Ok(()),
            };
            // The session ends by itself, if it is lost.
            if let Err(error) = looked {
                tracing::debug!(%error, "the ledger's register in the broker could not be written");
            }
            if self.worker.breakers.mispaired().is_some() {
                strange = strange.max(1);
            }
            let wait = match strange {
                0 => LOOK,
                // It ends by itself, once the ledger's connection leads to the server that took over.
                _ if matches!(self.worker.breakers.mispaired(), Some(Mispaired::OldPrimary(_))) => {
                    LOOK
                }
                times => RECHECK.delay(times, fastrand::f32().into()),
            };
            tokio::time::sleep(wait).await;
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(REWRITE) {
                written = None;
            }
            let looked = async {
                if pairing.is_limited() && !looks.is_multiple_of(SELDOM) {
                    return Ok(strange == 0);
                }
                self.look(&pairing).await
            };
            match looked.await {
                Ok(true) => strange = 0,
                Ok(false) => strange = strange.saturating_add(1),
                Err(error) => tracing::debug!(
                    %error,
                    "the pairing of queues and ledger could not be read"
                ),
            }
        }
    }

    fn mispaired(&self, other: &str) -> Mispaired {
        let Identity { id, place, .. } = self.worker.ledger.identity();
        Mispaired::OtherLedger(mispaired(&self.prefix, other, id, place))
    }

    /// Whether the prefix is this ledger's now, and held by this worker.
    async fn look(&self, pairing: &Pairing) -> Result<bool, Error> {
        match pairing.claim(&self.worker.ledger.identity().id).await? {
            Paired::Other(other) => {
                self.show(Some(self.mispaired(&other)));
                // Whoever has the other ledger waits for that.
                pairing.release().await?;
            }
            Paired::Ours | Paired::Nobody | Paired::Unknown
                if self.worker.breakers.mispaired().is_some() =>
            {
                self.meet(pairing).await?;
            }
            Paired::Ours | Paired::Nobody | Paired::Unknown => {
                if let Some(problem) = self.hold(pairing).await? {
                    self.show(Some(problem));
                }
            }
        }
        Ok(self.worker.breakers.mispaired().is_none())
    }
}

/// One sentence for whoever has to settle it.
pub(crate) fn mispaired(prefix: &str, other: &str, id: &str, place: &str) -> String {
    format!(
        "the queues of AMQP_PREFIX {prefix} belong to the ledger {other}, but this worker has the \
         ledger {id} ({place}), which does not know the commands of the other one: set LEDGER_URL \
         to the other ledger; or let this one take over (LEDGER_ADOPT=true, or eko-worker ledger \
         adopt), so that refunds that it does not know are inquired first; or choose another \
         AMQP_PREFIX for another deployment"
    )
}

/// One sentence for whoever has to settle that another server has taken over as the ledger's.
pub(crate) fn outdated(place: &str, timeline: Option<u32>, known: Option<u32>) -> String {
    let number =
        |timeline: Option<u32>| timeline.map_or_else(|| "?".to_owned(), |it| it.to_string());
    format!(
        "another PostgreSQL server has taken over this ledger ({place}): the server of LEDGER_URL \
         writes timeline {}, but a standby was promoted to timeline {}; point LEDGER_URL at the \
         server that took over, and fence the old one (stop it, and do not start it as a primary)",
        number(timeline),
        number(known)
    )
}

/// Says which ledger is open.
pub(super) fn say(identity: &Identity) {
    let Identity { id, is_new, place, promise, adopted, .. } = identity;
    if *is_new {
        tracing::warn!(
            ledger = id,
            place,
            promise,
            "this ledger is new and knows no earlier command: if these queues had another ledger, \
             stop the worker and set LEDGER_URL to that one"
        );
    } else {
        let adopted = adopted.map(tracing::field::display);
        tracing::info!(ledger = id, place, promise, adopted, "the ledger is open");
    }
}

/// Counts each time that the ledger was found to have lost commits.
pub(super) async fn count_forgotten(mut forgotten: watch::Receiver<u64>, metrics: Arc<Metrics>) {
    let mut counted = 0;
    loop {
        let now = *forgotten.borrow_and_update();
        metrics.forgot(now.saturating_sub(counted));
        counted = now;
        if forgotten.changed().await.is_err() {
            return;
        }
    }
}
