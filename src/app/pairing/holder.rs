//! A ledger that serves one process has one worker, whatever copies of it there are.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Keeper;
use crate::backoff::Backoff;
use crate::breaker::Mispaired;
use crate::broker::{Error, Held, Pairing};
use crate::ledger::Identity;

/// Between looks where a worker starts: the one before it may just have been stopped.
const LOOKS: Backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(2) };

/// A worker that was killed on this machine is let go within moments: until then nothing is said.
const UNSAID: Duration = Duration::from_secs(1);

/// How much longer than the broker's own silence is waited for.
const SLACK: Duration = Duration::from_secs(10);

impl Keeper {
    /// Holds the queues where the ledger serves one process; what is wrong where another worker
    /// holds them.
    pub(super) async fn hold(&self, pairing: &Pairing) -> Result<Option<Mispaired>, Error> {
        if !self.worker.ledger.identity().serves_one {
            return Ok(None);
        }
        match pairing.hold().await? {
            Held::Here => Ok(None),
            Held::Elsewhere => Ok(Some(self.held_elsewhere())),
            Held::OfLostNode => Ok(Some(self.held_of_lost_node())),
            Held::Refused => {
                if !self.has_said_unheld.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        prefix = self.prefix,
                        "the worker cannot notice a copy of this SQLite ledger: give the user of \
                         AMQP_URL the configure permission for queue {}.ledger.holder",
                        self.prefix
                    );
                }
                Ok(None)
            }
        }
    }

    /// Holds the queues where a worker starts. After a power cut the broker takes the connection of
    /// the worker before for alive until some heartbeats are missing: so long is waited.
    pub(super) async fn hold_at_start(
        &self,
        pairing: &Pairing,
    ) -> Result<Option<Mispaired>, Error> {
        let held = self.wait_until_held(pairing).await;
        self.worker.breakers.await_ledger(None);
        held
    }

    async fn wait_until_held(&self, pairing: &Pairing) -> Result<Option<Mispaired>, Error> {
        let timeout = pairing.silence() + SLACK;
        let (began, mut looks, mut is_said) = (self.worker.now().monotonic, 0, false);
        while let Some(problem) = self.hold(pairing).await? {
            let waited = self.worker.now().monotonic.saturating_sub(began);
            if waited >= timeout {
                return Ok(Some(problem));
            }
            if waited >= UNSAID && !is_said {
                is_said = true;
                self.worker.breakers.await_ledger(Some(problem.why().to_owned()));
                tracing::warn!(
                    why = problem.why(),
                    seconds = timeout.as_secs(),
                    "waiting to consume"
                );
            }
            looks += 1;
            let delay = LOOKS.delay(looks, fastrand::f32().into()).min(timeout - waited);
            tokio::time::sleep(delay).await;
        }
        Ok(None)
    }

    /// One sentence for whoever has to settle it.
    fn held_elsewhere(&self) -> Mispaired {
        let Identity { id, place, .. } = self.worker.ledger.identity();
        Mispaired::HeldElsewhere(format!(
            "another worker with an SQLite ledger of this id ({id}, here {place}) uses the queues \
             of AMQP_PREFIX {}: it is a second worker, or has a copy of the ledger file; an SQLite \
             ledger serves one worker: stop one of the two, and keep the ledger that was in use; \
             for several workers, use a PostgreSQL ledger (LEDGER_URL)",
            self.prefix
        ))
    }

    /// The same, where RabbitMQ has lost the node to which the worker before was connected.
    fn held_of_lost_node(&self) -> Mispaired {
        let prefix = &self.prefix;
        Mispaired::HeldElsewhere(format!(
            "queue {prefix}.ledger.holder is locked by a node of RabbitMQ that is lost \
             (rabbitmqctl cluster_status): the former worker was connected to it, and uses the \
             queues of AMQP_PREFIX {prefix}; bring that node back; or see that the former worker is \
             stopped, and then free the queue: rabbitmqctl delete_queue {prefix}.ledger.holder (-p <virtual host>)"
        ))
    }
}
