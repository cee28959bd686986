//! What a store is asked, and where its answers go.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::Error;
use super::claim::{
    Asked, BacklogCounts, Claim, ClaimRequest, ClaimedCommand, LeaseStatus, Stranded,
};
use super::meta::{Change, Meta};
use super::operator::OperatorPause;
use super::row::Finished;
use super::slots::{SlotBlock, SlotRequest};
use eko_core::history::History;

/// A request to the store.
pub(super) enum Request {
    /// About one command.
    Command(CommandRequest),
    /// About the ledger as a whole.
    Upkeep(UpkeepRequest),
}

/// A request about one command, and where its answer goes.
pub(super) enum CommandRequest {
    Claim { claimant: Box<Claimant>, reply: Reply<Claim> },
    Write { write: Box<Write>, reply: Reply<LeaseStatus> },
    Parked { id: String, parked: u32 },
    Told { id: String },
}

/// A request about no command of its own, and where its answer goes.
pub(super) enum UpkeepRequest {
    Stranded { most: u32, reply: Reply<Stranded> },
    BacklogCounts { reply: Reply<BacklogCounts> },
    Prune { before: Timestamp, most: u32, reply: Reply<u32> },
    OperatorPauses { reply: Reply<Vec<OperatorPause>> },
    PruneAudit { before: Timestamp, most: u32, reply: Reply<u32> },
    Probe { reply: Reply<()> },
    Meta { change: Change, reply: Reply<Meta> },
    TakeSlots { request: SlotRequest, reply: Reply<SlotBlock> },
}

/// Who claims a command.
#[derive(Clone, Debug)]
pub(super) struct Claimant {
    /// What it asks for.
    pub(super) request: ClaimRequest,
    /// What tells its claim from all others.
    pub(super) token: u64,
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Answers that are sent once the commit they share is safe, or has failed.
pub(super) type Answers = Vec<Box<dyn FnOnce(Option<&Error>) + Send>>;

/// Keeps an answer until the commit is made. An error of the store fails the commit, and with it all
/// answers.
pub(super) fn reply_after_commit<T: Send + 'static, E: std::fmt::Display>(
    answers: &mut Answers,
    reply: Reply<T>,
    done: Result<Result<T, Error>, E>,
) -> Result<(), E> {
    let (result, failed) = match done {
        Ok(result) => (result, Ok(())),
        Err(error) => (Err(Error::Store(error.to_string())), Err(error)),
    };
    answers.push(Box::new(move |error| {
        let result = error.map_or(result, |error| Err(error.clone()));
        // Whoever asked may have gone meanwhile: the process is stopping.
        drop(reply.send(result));
    }));
    failed
}

/// Splits a batch into what is about one command each, and the rest.
pub(super) fn by_subject(
    batch: impl Iterator<Item = Request>,
) -> (Vec<CommandRequest>, Vec<UpkeepRequest>) {
    let (mut commands, mut upkeep) = (Vec::new(), Vec::new());
    for request in batch {
        match request {
            Request::Command(request) => commands.push(request),
            Request::Upkeep(request) => upkeep.push(request),
        }
    }
    (commands, upkeep)
}

impl CommandRequest {
    /// Answers that it could not be dealt with; whoever asked may have gone meanwhile.
    pub(super) fn fail(self, error: &Error) {
        match self {
            Self::Claim { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Write { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::Parked { .. } | Self::Told { .. } => {}
        }
    }
}

impl UpkeepRequest {
    /// Answers that it could not be dealt with; whoever asked may have gone meanwhile.
    pub(super) fn fail(self, error: &Error) {
        match self {
            Self::Stranded { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::BacklogCounts { reply } => drop(reply.send(Err(error.clone()))),
            Self::Prune { reply, .. } | Self::PruneAudit { reply, .. } => {
                drop(reply.send(Err(error.clone())));
            }
            Self::OperatorPauses { reply } => drop(reply.send(Err(error.clone()))),
            Self::Probe { reply } => drop(reply.send(Err(error.clone()))),
            Self::Meta { reply, .. } => drop(reply.send(Err(error.clone()))),
            Self::TakeSlots { reply, .. } => drop(reply.send(Err(error.clone()))),
        }
    }
}

/// A write about a claimed command.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) id: String,
    pub(super) token: u64,
    pub(super) history: History,
    pub(super) asked: Arc<Asked>,
    pub(super) parked: u32,
    pub(super) interruptions: u32,
    pub(super) is_kept: bool,
    pub(super) transition: Transition,
}

impl Write {
    /// A write of whoever holds the claim.
    pub(super) fn of(claimed: ClaimedCommand, transition: Transition) -> Self {
        let ClaimedCommand { id, history, parked, interruptions, token, asked, is_kept } = claimed;
        Self { id, token, history, asked, parked, interruptions, is_kept, transition }
    }
}

/// What follows a write.
#[derive(Clone, Debug)]
pub(super) enum Transition {
    /// An attempt or an inquiry: the claim lasts that much longer.
    Call { lease: Duration },
    /// Parking: the claim ends.
    Wait { delay: Duration, unsettled: bool },
    /// The end.
    Finish { end: Finished, is_untold: bool },
}
