//! The end of a command: ledger, then event, then acknowledgement.

use super::{Claimed, Delivered, End, LeaseStatus, NotingParked, Order, Placed, Source};
use crate::event::Event;
use crate::outcome::Outcome;

/// What follows from the end of a command and is not in the broker yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owed {
    /// Its event.
    pub event: bool,
    /// A copy of the command where a person looks.
    pub dead_letter: bool,
}

impl Owed {
    /// Whether there is nothing.
    pub const fn is_nothing(self) -> bool {
        !self.event && !self.dead_letter
    }
}

/// What an event says that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The command.
    Command,
    /// What the ledger knows of the command, whose message cannot be read or is lost.
    Ledger,
    /// A message that is no command of its own.
    Message,
}

/// A command ends.
#[derive(Clone, Debug)]
pub struct Finishing<C> {
    /// The command and its evidence.
    pub claim: C,
    /// How.
    pub outcome: Outcome,
    /// The rest of the order: the ledger takes the claim.
    pub ending: Ending,
}

/// The end of a command is being written.
#[derive(Clone, Debug)]
pub struct Ending {
    /// What its event is about.
    pub subject: Subject,
    needs_a_person: bool,
    attempts: u32,
    source: Source,
}

/// What is owed is to be published.
#[derive(Clone, Debug)]
pub struct Publishing {
    /// The event of the outcome.
    pub event: Event,
    /// What is owed.
    pub owed: Owed,
    /// Whether the ledger had the event before: whether what follows from it may not have been done.
    pub replayed: Option<Replayed>,
    source: Source,
}

/// An event that the ledger had before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Whether what follows from it may not have been done.
    pub is_untold: bool,
    /// Whether its copy waited since the broker refused it.
    pub was_refused: bool,
}

/// The broker has refused some of it: a copy of the command waits for that.
#[derive(Clone, Debug)]
pub struct ParkingRefused {
    /// What was published, and what was not.
    pub published: Published,
}

/// What was owed, and what the broker refused of it.
#[derive(Clone, Debug)]
pub struct Published {
    /// The event of the outcome.
    pub event: Event,
    /// What was owed.
    pub owed: Owed,
    /// What the broker refused of that.
    pub refused: Owed,
}

/// All that follows from a delivery is safe.
#[derive(Clone, Debug, Default)]
pub struct Acknowledging {
    /// What was published, where that is why.
    pub published: Option<Published>,
    /// The how manieth copy was parked, where that replaces older ones.
    pub parked: Option<u32>,
    /// Nobody publishes the rest of what is owed but whoever looks for it in the ledger.
    is_left: bool,
}

/// What follows from a delivery is not safe, or nothing follows from it yet.
#[derive(Clone, Debug)]
pub struct Requeuing {
    /// What was published before.
    pub published: Option<Published>,
}

/// What was owed is done.
#[derive(Clone, Debug)]
pub struct NotingPublished {
    /// The event of the outcome.
    pub event: Event,
}

impl<C> Finishing<C> {
    pub(super) fn new(claim: C, outcome: Outcome, subject: Subject, source: Source) -> Self
    where
        C: Claimed,
    {
        let needs_a_person = outcome.needs_a_person();
        let attempts = claim.history().attempts();
        Self { claim, outcome, ending: Ending { subject, needs_a_person, attempts, source } }
    }
}

impl Ending {
    /// Whether the ledger is to note that something has to follow whoever sees the command next.
    pub fn is_untold(&self) -> bool {
        self.needs_a_person || self.source == Source::Ledger
    }

    /// Whether it was written, with this event.
    pub fn finished<C>(self, held: LeaseStatus, event: Event) -> Order<C> {
        let Self { needs_a_person, source, .. } = self;
        if held == LeaseStatus::Lost {
            return source.lost();
        }
        Order::Publish(match source {
            Source::Message(_) => {
                let owed = Owed { event: true, dead_letter: needs_a_person };
                Publishing { event, owed, replayed: None, source }
            }
            Source::Ledger => Publishing { replayed: None, ..Publishing::of_orphan(event) },
        })
    }

    /// The ledger could not be asked.
    pub fn failed<C>(self) -> Order<C> {
        self.source.ledger_failed(self.attempts)
    }
}

/// Says again what was said before. Where it may not have been told yet, what follows from it
/// is done now: the ledger may have kept it while its answer was lost, or whoever told it died
/// before its copy was where a person looks. A copy that waited since the broker
/// refused something is owed just that.
pub(super) fn replayed(delivered: Delivered, event: Event, is_untold: bool) -> Publishing {
    let Delivered { refused, is_redelivered, .. } = delivered;
    let needs_a_person = event.outcome.needs_a_person();
    let is_dead = needs_a_person && (is_untold || is_redelivered);
    // Something is owed in any case, or the copy would not have waited.
    let owed = Owed {
        event: !needs_a_person || refused.is_none_or(|refused| refused.event),
        dead_letter: is_dead || (needs_a_person && refused.is_some_and(|it| it.dead_letter)),
    };
    let replayed = Replayed { is_untold, was_refused: refused.is_some() };
    Publishing { event, owed, replayed: Some(replayed), source: Source::Message(delivered) }
}

impl Publishing {
    /// Of an orphan there is nothing to put where a person looks: its event has to do.
    pub(super) const fn of_orphan(event: Event) -> Self {
        let owed = Owed { event: true, dead_letter: false };
        let replayed = Some(Replayed { is_untold: true, was_refused: false });
        Self { event, owed, replayed, source: Source::Ledger }
    }

    /// The broker has confirmed what is owed, except for what it refused.
    pub fn published<C>(self, refused: Owed) -> Order<C> {
        let Self { event, owed, source, .. } = self;
        match source {
            Source::Ledger => Order::NotePublished(NotingPublished { event }),
            Source::Message(_) if refused.is_nothing() => {
                Order::Acknowledge(Acknowledging::of(Published { event, owed, refused }))
            }
            Source::Message(_) => {
                Order::ParkRefused(ParkingRefused { published: Published { event, owed, refused } })
            }
        }
    }
}

impl ParkingRefused {
    /// Whether a queue has taken the copy.
    pub fn parked<C>(self, placed: Placed) -> Order<C> {
        let published = self.published;
        match placed {
            Placed::Yes => Order::Acknowledge(Acknowledging::of(published)),
            Placed::No => Order::Requeue(Requeuing { published: Some(published) }),
            Placed::Left => {
                Order::Acknowledge(Acknowledging { is_left: true, ..Acknowledging::of(published) })
            }
        }
    }
}

impl Acknowledging {
    fn of(published: Published) -> Self {
        Self { published: Some(published), ..Self::default() }
    }

    /// A copy is parked.
    pub(super) const fn of_copy(parked: Option<u32>) -> Self {
        Self { published: None, parked, is_left: false }
    }

    /// It is acknowledged.
    pub fn acknowledged<C>(self) -> Order<C> {
        match (self.published, self.parked) {
            _ if self.is_left => Order::End(End::Over),
            (Some(published), _) => published.settled(),
            (None, Some(parked)) => Order::NoteParked(NotingParked { parked }),
            (None, None) => Order::End(End::Over),
        }
    }
}

impl Requeuing {
    /// It is handed back.
    pub fn requeued<C>(self) -> Order<C> {
        self.published.map_or(Order::End(End::Over), Published::settled)
    }
}

impl Published {
    fn settled<C>(self) -> Order<C> {
        let Self { event, owed, refused } = self;
        if owed.dead_letter && !refused.dead_letter {
            Order::NotePublished(NotingPublished { event })
        } else {
            Order::End(End::Over)
        }
    }
}

impl NotingPublished {
    /// The ledger knows, or could not be told: then it is done once more.
    pub fn noted<C>(self) -> Order<C> {
        Order::End(End::Over)
    }
}
