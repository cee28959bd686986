//! What the ledger has to do with a pause: it is waited for, it fails, or it is not the queues' ledger.

use super::{Breakers, Reason};
use crate::command::Kind;
use crate::ledger::Error;

/// Why nothing may be consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mispaired {
    /// The queues belong to another ledger, as this sentence says.
    OtherLedger(String),
    /// Another worker holds the queues, as this sentence says.
    HeldElsewhere(String),
    /// Another server has taken over as the ledger's, as this sentence says.
    OldPrimary(String),
}

impl Mispaired {
    /// One sentence for whoever has to settle it.
    pub(crate) fn why(&self) -> &str {
        match self {
            Self::OtherLedger(why) | Self::HeldElsewhere(why) | Self::OldPrimary(why) => why,
        }
    }
}

/// What is wrong with the ledger.
#[derive(Debug, Default)]
pub(super) struct LedgerProblems {
    /// What work waits for before it begins: a ledger that opens, or queues that nobody else holds.
    awaited: Option<String>,
    /// Why nothing may be consumed.
    mispaired: Option<Mispaired>,
    /// Why it cannot be used, as it was last seen.
    failure: Option<Error>,
}

impl Breakers {
    /// Notes what work waits for before it begins, or that it may begin.
    pub(crate) fn await_ledger(&self, problem: Option<String>) {
        self.ledger().awaited = problem;
    }

    /// What work waits for before it begins.
    pub(crate) fn awaited(&self) -> Option<String> {
        self.ledger().awaited.clone()
    }

    /// Why nothing may be consumed, where that is so.
    pub(crate) fn mispaired(&self) -> Option<Mispaired> {
        self.ledger().mispaired.clone()
    }

    /// Why the ledger cannot be used, as it was last seen.
    pub(crate) fn ledger_failure(&self) -> Option<Error> {
        self.ledger().failure.clone()
    }

    /// Notes why nothing may be consumed, or that the queues are this ledger's; tells whether there was
    /// a problem before.
    pub(super) fn note_pairing(&self, problem: Option<Mispaired>) -> bool {
        std::mem::replace(&mut self.ledger().mispaired, problem).is_some()
    }

    /// Notes why the ledger cannot be used, or that it can.
    pub(crate) fn note_ledger(&self, failure: Option<Error>) {
        self.ledger().failure = failure;
    }

    /// The ledger has answered: what was noted of it holds no more, unless a kind waits until it can be
    /// written. Where its server did not let us in before, whoever waits for it looks at once.
    pub(crate) fn ledger_answers(&self) {
        let was_shut_out = {
            let failure = &mut self.ledger().failure;
            failure.take_if(|error| is_shut_out(error)).is_some()
        };
        if was_shut_out {
            return self.probe_now();
        }
        let waits = |kind| self.paused(kind).is_some_and(|pause| pause.reason == Reason::Ledger);
        if !Kind::ALL.into_iter().any(waits) {
            self.note_ledger(None);
        }
    }
}

/// Whether an error says that the ledger's server did not let us in.
const fn is_shut_out(error: &Error) -> bool {
    match error {
        Error::Away(_) | Error::Refused(_) | Error::Unfit(_) => true,
        Error::NotYet(_) | Error::Store(_) | Error::InUse(_) | Error::Closed => false,
    }
}
