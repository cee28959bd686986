//! What the order knows of a claim.

use std::time::Duration;

use crate::command::Kind;
use crate::event::Event;
use crate::history::History;
use crate::outcome::Receipt;

/// A command that the ledger has given to whoever asked: only the holder may write about it.
pub trait Claimed {
    /// What is known of it.
    fn history(&self) -> &History;

    /// What is known of it, to add to.
    fn history_mut(&mut self) -> &mut History;

    /// How often it was parked.
    fn parked(&self) -> u32;

    /// How many claims in a row the worker died over.
    fn interruptions(&self) -> u32;

    /// Its kind, unless the ledger has none of this version.
    fn kind(&self) -> Option<Kind>;

    /// Whether it was begun by what has this digest.
    fn was_asked_by(&self, digest: &str) -> bool;
}

/// What the ledger says to a message.
#[derive(Clone, Debug)]
pub enum Claim<C> {
    /// Seen for the first time. Where it may and nothing speaks against it, its first attempt
    /// has begun in the same write.
    Fresh(C),
    /// Back from parking.
    Due(C),
    /// The worker died over it: how its last attempt ended is not known.
    Interrupted(C),
    /// A refund of a tid that another command has refunded: it succeeded, and this is what
    /// that one gave.
    Refunded(C, Receipt),
    /// Somebody else has it, or another refund of its tid is not finished.
    Busy {
        /// How long that claim lasts at the most, where it is known.
        wait: Option<Duration>,
    },
    /// A copy that came before its time.
    Early {
        /// How long it should have waited on.
        wait: Duration,
    },
    /// A copy that a later one has replaced.
    Stale,
    /// It has ended.
    Finished {
        /// The event of its outcome.
        event: Box<Event>,
        /// Whether what follows from it may not have been done yet: its event, its count, and a
        /// copy where a person looks.
        is_untold: bool,
    },
    /// The id belongs to a command that asks for something else.
    Conflict,
    /// Nothing is known of the id, and whoever asks knows nothing else.
    Unknown,
}

/// Whether a write was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseStatus {
    /// The claim still stands: the write was accepted.
    Held,
    /// The claim has gone to somebody else: nothing was written.
    Lost,
}
