//! The requests that share a commit, and their answers.

use std::vec;

use super::store::Store;
use crate::Error;
use crate::meta::{Change, Witness};
use crate::request::{
    Answers, CommandRequest, Request, UpkeepRequest, by_subject, reply_after_commit,
};
use crate::rules::Circumstances;
use crate::unit_of_work::UnitOfWork;

/// What one commit deals with.
pub(super) struct Work {
    commands: vec::IntoIter<CommandRequest>,
    upkeep: vec::IntoIter<UpkeepRequest>,
    answers: Answers,
}

impl Work {
    /// Takes in a batch.
    pub(super) fn of(batch: impl Iterator<Item = Request>) -> Self {
        let (commands, upkeep) = by_subject(batch);
        Self { commands: commands.into_iter(), upkeep: upkeep.into_iter(), answers: Answers::new() }
    }

    /// Deals with the commands; the ids of those that were missing and are written back.
    pub(super) fn apply(
        &mut self,
        store: &mut Store<'_>,
        circumstances: Circumstances,
    ) -> rusqlite::Result<Vec<String>> {
        let mut unit = UnitOfWork::new(store, circumstances);
        for request in self.commands.by_ref() {
            unit.apply(request, &mut self.answers)?;
        }
        Ok(unit.missed)
    }

    /// Deals with the upkeep.
    pub(super) fn keep_up(
        &mut self,
        store: &mut Store<'_>,
        witness: &Witness,
        circumstances: Circumstances,
    ) -> rusqlite::Result<()> {
        let answers = &mut self.answers;
        for request in self.upkeep.by_ref() {
            match request {
                UpkeepRequest::Stranded { most, reply } => {
                    let stranded = store.stranded(most, circumstances);
                    reply_after_commit(answers, reply, stranded.map(Ok))?;
                }
                UpkeepRequest::BacklogCounts { reply } => {
                    reply_after_commit(answers, reply, store.backlog_counts().map(Ok))?;
                }
                UpkeepRequest::Prune { before, most, reply } => {
                    reply_after_commit(answers, reply, store.prune(before, most).map(Ok))?;
                }
                UpkeepRequest::OperatorPauses { reply } => {
                    reply_after_commit(answers, reply, store.operator_pauses())?;
                }
                UpkeepRequest::PruneAudit { before, most, reply } => {
                    reply_after_commit(answers, reply, store.prune_audit(before, most).map(Ok))?;
                }
                UpkeepRequest::Probe { reply } => {
                    reply_after_commit(answers, reply, store.probe().map(Ok))?;
                }
                UpkeepRequest::Meta { change, reply } => {
                    if change == Change::Forget {
                        witness.count();
                    }
                    reply_after_commit(answers, reply, store.meta(change).map(Ok))?;
                }
                UpkeepRequest::TakeSlots { request, reply } => {
                    reply_after_commit(answers, reply, store.take_slots(&request).map(Ok))?;
                }
            }
        }
        Ok(())
    }

    /// Answers all, also what was not dealt with.
    pub(super) fn answer(self, committed: &Result<(), Error>) {
        if let Err(error) = committed {
            self.commands.for_each(|request| request.fail(error));
            self.upkeep.for_each(|request| request.fail(error));
        }
        for answer in self.answers {
            answer(committed.as_ref().err());
        }
    }
}
