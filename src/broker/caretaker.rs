//! What was declared, while a session lasts: somebody may delete an exchange or remove a binding, and
//! the broker tells nobody.

use std::sync::Arc;

use lapin::Connection;

use super::Error;
use super::connection::Session;
use super::connection_monitor::ConnectionMonitor;
use super::declare::{Declarer, Hidden};
use super::refusals::Refusals;
use super::topology::{Family, Names, WaitingQueue};
use crate::command::Kind;

/// Looks after exchanges and bindings.
pub(crate) struct Caretaker {
    connection: Arc<Connection>,
    monitor: ConnectionMonitor,
    names: Arc<Names>,
    may_declare: bool,
    hidden: Hidden,
    refusals: Refusals,
}

impl Caretaker {
    /// A caretaker of a session.
    pub(super) fn new(session: &Session, refusals: &Refusals) -> Self {
        let (connection, monitor) = (Arc::clone(&session.consuming), session.monitors[0].clone());
        Self {
            connection,
            monitor,
            names: refusals.names(),
            // Where the user may not declare, it only looks.
            may_declare: !session.is_unchecked,
            hidden: Hidden::default(),
            refusals: refusals.clone(),
        }
    }

    /// Declares once more what all kinds need, the bindings of their queues, and the waiting queues
    /// that were found missing: what is gone is there again, and what is there stays as it is. A
    /// binding can only be declared: whether it was gone the broker does not tell. The loss of a kind's
    /// own queue is noticed by its consumer.
    ///
    /// # Errors
    /// Where something is not what this worker needs, or the session is lost.
    pub(crate) async fn mend(&self) -> Result<(), Error> {
        let mut declarer = self.declarer();
        let mended = async {
            declarer.shared().await?;
            for kind in Kind::ALL {
                declarer.bind_kind(kind).await?;
            }
            let missing = if self.may_declare { self.refusals.missing() } else { Vec::new() };
            for queue in missing {
                if let Err(error) = declarer.waiting(queue).await {
                    // It is there, and another one than it must be: the next session finds that.
                    if let Error::Topology(_) = &error {
                        self.refusals.found(queue);
                    }
                    return Err(error);
                }
                self.refusals.takes(queue);
            }
            declarer.close().await
        };
        tokio::select! {
            mended = mended => mended,
            why = self.monitor.gone() => Err(Error::Lost(why)),
        }
    }

    /// How many ended commands of a kind wait until what was refused is published again; `None`
    /// where this user may not look.
    ///
    /// # Errors
    /// Where the session is lost, or a queue was deleted.
    pub(crate) async fn refused_waiting(&self, kind: Kind) -> Result<Option<u32>, Error> {
        let mut declarer = self.declarer();
        let counted = async {
            let mut waiting = Some(0);
            let refused = |queue: &WaitingQueue| queue.family == Family::Refused;
            for queue in WaitingQueue::of(kind).filter(refused) {
                let count = declarer.count(&self.names.waiting(queue)).await?;
                waiting = waiting.zip(count).map(|(sum, count)| sum + count);
            }
            declarer.close().await?;
            Ok(waiting)
        };
        tokio::select! {
            counted = counted => counted,
            why = self.monitor.gone() => Err(Error::Lost(why)),
        }
    }

    fn declarer(&self) -> Declarer<'_> {
        let mut declarer = Declarer::new(&self.connection, &self.names);
        declarer.may_declare = self.may_declare;
        declarer.hidden = self.hidden.clone();
        declarer
    }
}
