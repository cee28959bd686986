//! What one request does, in the same order for all stores: load its row, load what other commands
//! have left of its tid, apply the rules, save. Requests of one commit come one after the other, so
//! that each sees what those before it did.

use std::fmt::Display;

use super::Error;
use super::claim::{Claim, LeaseStatus};
use super::request::{Answers, Claimant, CommandRequest, Write, reply_after_commit};
use super::row::Row;
use super::rules::{self, Circumstances, TidState};

/// The rows of a store, within one commit.
pub(super) trait Rows {
    /// What can go wrong with one of them. Then the commit fails.
    type Error: Display;

    /// Loads a command.
    fn load(&mut self, id: &str) -> Result<Option<Row>, Self::Error>;

    /// What the refunds of a tid have left.
    fn tid_state(&mut self, tid: &str) -> Result<TidState, Self::Error>;

    /// Keeps a command that is claimed for the first time.
    fn add(&mut self, row: Row) -> Result<(), Self::Error>;

    /// Keeps a command, new or known.
    fn save(&mut self, row: Row) -> Result<(), Self::Error>;

    /// Notes that the `parked`th copy of a command is safe, unless a later one is.
    fn raise_parked(&mut self, id: &str, parked: u32) -> Result<(), Self::Error>;

    /// Notes that what follows from a command's end was done.
    fn mark_told(&mut self, id: &str) -> Result<(), Self::Error>;
}

/// The rules over a store's rows, within one commit.
pub(super) struct UnitOfWork<'a, R> {
    rows: &'a mut R,
    circumstances: Circumstances,
    /// Claimed commands that were missing, and were written back.
    pub(super) missed: Vec<String>,
}

impl<'a, R: Rows> UnitOfWork<'a, R> {
    /// Begins one.
    pub(super) const fn new(rows: &'a mut R, circumstances: Circumstances) -> Self {
        Self { rows, circumstances, missed: Vec::new() }
    }

    /// Does what one request asks; the answer waits for the commit.
    pub(super) fn apply(
        &mut self,
        request: CommandRequest,
        answers: &mut Answers,
    ) -> Result<(), R::Error> {
        match request {
            CommandRequest::Claim { claimant, reply } => {
                reply_after_commit(answers, reply, self.claim(&claimant))
            }
            CommandRequest::Write { write, reply } => {
                reply_after_commit(answers, reply, self.write(*write).map(Ok))
            }
            CommandRequest::Parked { id, parked } => self.rows.raise_parked(&id, parked),
            CommandRequest::Told { id } => self.rows.mark_told(&id),
        }
    }

    /// Claims a command.
    pub(super) fn claim(&mut self, claimant: &Claimant) -> Result<Result<Claim, Error>, R::Error> {
        let row = self.rows.load(&claimant.request.id)?;
        let tid = self.tid_state(rules::tid_that_matters(row.as_ref(), &claimant.request))?;
        let is_new = row.is_none();
        let (claim, changed) = match rules::claim(row, &tid, claimant, self.circumstances) {
            Ok(claimed) => claimed,
            Err(error) => return Ok(Err(error)),
        };
        match changed {
            Some(row) if is_new => self.rows.add(row)?,
            Some(row) => self.rows.save(row)?,
            None => {}
        }
        Ok(Ok(claim))
    }

    /// Writes about a claimed command.
    pub(super) fn write(&mut self, write: Write) -> Result<LeaseStatus, R::Error> {
        let Some(mut row) = self.rows.load(&write.id)? else {
            return self.write_back(write);
        };
        let held = rules::write(&mut row, write, self.circumstances.now);
        if held == LeaseStatus::Held {
            self.rows.save(row)?;
        }
        Ok(held)
    }

    /// Writes about a claimed command of which the store knows nothing any more.
    fn write_back(&mut self, write: Write) -> Result<LeaseStatus, R::Error> {
        let tid = self.tid_state(write.asked.refund_of())?;
        let is_kept = write.is_kept;
        let Some(row) = rules::write_back(write, &tid, self.circumstances.now) else {
            return Ok(LeaseStatus::Lost);
        };
        if is_kept {
            self.missed.push(row.id.clone());
        }
        self.rows.save(row)?;
        Ok(LeaseStatus::Held)
    }

    fn tid_state(&mut self, tid: Option<&str>) -> Result<TidState, R::Error> {
        tid.map_or_else(|| Ok(TidState::default()), |tid| self.rows.tid_state(tid))
    }
}
