//! What the worker does besides its commands: it forgets what was over long ago.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::ledger::Error;
use crate::worker::Worker;

/// How often something is forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(10);

/// How many are forgotten in one write, few enough not to be felt by those that wait for theirs.
const BATCH: u32 = 500;

/// Between two batches others have the ledger to themselves. 100,000 commands then go out of an
/// SQLite file in 12 s, many more than a worker finishes meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// What is forgotten.
#[derive(Clone, Copy)]
pub(super) enum Old {
    /// Commands, so long after they finished.
    Commands,
    /// What people did by hand, so long after that.
    Audit,
}

impl Old {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Commands => "finished commands",
            Self::Audit => "the oldest audit entries",
        }
    }

    async fn prune(self, worker: &Worker, before: Timestamp) -> Result<u32, Error> {
        match self {
            Self::Commands => worker.ledger.prune(before, BATCH).await,
            Self::Audit => worker.ledger.prune_audit(before, BATCH).await,
        }
    }
}

/// Forgets what is old once its time is over, for as long as the process lives: by the time that Eko
/// confirmed, since a clock that is set forward would have all of it forgotten.
pub(super) async fn forget(worker: Arc<Worker>, old: Old, retention: Duration) {
    let retention = SignedDuration::try_from(retention).unwrap_or(SignedDuration::MAX);
    loop {
        tokio::time::sleep(PRUNE_EVERY).await;
        let Some(now) = worker.agreed_time() else { continue };
        let Ok(before) = now.checked_sub(retention) else {
            return;
        };
        match forget_all(|| old.prune(&worker, before), PAUSE).await {
            Ok(0) => {}
            Ok(forgotten) => {
                tracing::debug!(forgotten, "{} were deleted from the ledger", old.as_str());
            }
            Err(error) => tracing::warn!(
                %error,
                "{} could not be deleted from the ledger: trying again later",
                old.as_str()
            ),
        }
    }
}

/// Forgets batch by batch until one is not full, so that it keeps up with any number of commands
/// that end meanwhile; tells how many were forgotten.
async fn forget_all<F>(mut prune: impl FnMut() -> F, pause: Duration) -> Result<u64, Error>
where
    F: Future<Output = Result<u32, Error>>,
{
    let mut all = 0_u64;
    loop {
        let forgotten = prune().await?;
        all += u64::from(forgotten);
        if forgotten < BATCH {
            return Ok(all);
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use tokio::time::Instant;

    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    /// Forgets all of so many that are due; tells how many, and in how many batches.
    #[expect(clippy::disallowed_methods, reason = "whether there were pauses")]
    async fn forget(due: u32) -> (u64, u32) {
        let (mut left, mut batches) = (due, 0);
        let began = Instant::now();
        let prune = || {
            let batch = left.min(BATCH);
            left -= batch;
            batches += 1;
            ready(Ok(batch))
        };
        let all = forget_all(prune, SHORT).await.unwrap();
        assert_eq!(left, 0, "{left} of {due} are left");
        assert!(began.elapsed() >= SHORT * (batches - 1), "no pause between the batches");
        (all, batches)
    }

    #[tokio::test]
    async fn all_that_are_due_are_forgotten_at_one_go_with_pauses_between() {
        for (due, batches) in [(0, 1), (499, 1), (500, 2), (501, 2), (100_000, 201)] {
            assert_eq!(forget(due).await, (due.into(), batches), "{due}");
        }
    }

    #[tokio::test]
    async fn a_ledger_that_fails_is_asked_again_later() {
        let mut asked = 0;
        let prune = || {
            asked += 1;
            ready(if asked == 1 { Ok(BATCH) } else { Err(Error::Closed) })
        };
        assert!(forget_all(prune, SHORT).await.is_err());
        assert_eq!(asked, 2);
    }
}
