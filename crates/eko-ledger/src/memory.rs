//! The ledger in memory: the same rules without a store, to measure what a store costs.
//!
//! Nothing outlives the process: no `LEDGER_URL` leads to it, only `eko-bench` asks for it.

use std::convert::Infallible;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::request::{Answers, Request, UpkeepRequest};
use super::row::Row;
use super::row_index::RowIndex;
use super::rules::{Circumstances, LeaseScope, TidState};
use super::slots::{self, SlotRow};
use super::unit_of_work::{Rows, UnitOfWork};
use super::{BacklogCounts, Identity, Meta, Opened, Opening, Stranded};

/// How many requests are taken at once, as the stores do.
const BATCH: usize = 512;

/// Starts its task.
pub(super) fn open(opening: &Opening, inbox: mpsc::Receiver<Request>) -> Opened {
    let lease_scope = LeaseScope::Process { epoch: u64::from(opening.epoch) << 32 };
    let memory = Memory { lease_scope, rows: RowIndex::default(), slots: None };
    tokio::spawn(memory.serve(inbox));
    let identity = Identity {
        id: opening.new_id(),
        is_new: true,
        place: "memory".to_owned(),
        adopted: None,
        promise: "nothing outlives the process".to_owned(),
        serves_one: true,
    };
    let (_, regressions) = super::meta::Witness::new();
    Opened { digest_key: opening.new_key.to_vec(), identity, regressions }
}

struct Memory {
    lease_scope: LeaseScope,
    rows: RowIndex,
    /// One process has one key.
    slots: Option<SlotRow>,
}

impl Memory {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(BATCH);
        while inbox.recv_many(&mut batch, BATCH).await > 0 {
            batch.drain(..).for_each(|request| self.answer(request));
        }
    }

    fn answer(&mut self, request: Request) {
        let request = match request {
            Request::Command(request) => request,
            Request::Upkeep(request) => return self.keep_up(request),
        };
        let (circumstances, mut answers) = (self.circumstances(), Answers::new());
        let Ok(()) = UnitOfWork::new(self, circumstances).apply(request, &mut answers);
        for answer in answers {
            answer(None);
        }
    }

    /// There is little to keep up. Whoever asked may have gone meanwhile: the process is stopping.
    fn keep_up(&mut self, request: UpkeepRequest) {
        match request {
            UpkeepRequest::Stranded { reply, .. } => drop(reply.send(Ok(Stranded::default()))),
            UpkeepRequest::BacklogCounts { reply } => {
                drop(reply.send(Ok(BacklogCounts::default())));
            }
            UpkeepRequest::Meta { reply, .. } => drop(reply.send(Ok(Meta::default()))),
            UpkeepRequest::Prune { reply, .. } | UpkeepRequest::PruneAudit { reply, .. } => {
                drop(reply.send(Ok(0)));
            }
            UpkeepRequest::OperatorPauses { reply } => drop(reply.send(Ok(Vec::new()))),
            UpkeepRequest::Probe { reply } => drop(reply.send(Ok(()))),
            UpkeepRequest::TakeSlots { request, reply } => {
                let now = self.circumstances().now.as_microsecond();
                let (block, row) = slots::take(self.slots, &request, now);
                self.slots = Some(row);
                drop(reply.send(Ok(block)));
            }
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the store's own time")]
    fn circumstances(&self) -> Circumstances {
        Circumstances { lease_scope: self.lease_scope, caution: None, now: Timestamp::now() }
    }
}

impl Rows for Memory {
    type Error = Infallible;

    fn load(&mut self, id: &str) -> Result<Option<Row>, Infallible> {
        Ok(self.rows.get(id).cloned())
    }

    fn tid_state(&mut self, tid: &str) -> Result<TidState, Infallible> {
        Ok(self.rows.tid_state(tid))
    }

    fn add(&mut self, row: Row) -> Result<(), Infallible> {
        self.save(row)
    }

    fn save(&mut self, row: Row) -> Result<(), Infallible> {
        self.rows.put(row);
        Ok(())
    }

    fn raise_parked(&mut self, id: &str, parked: u32) -> Result<(), Infallible> {
        if let Some(row) = self.rows.get_mut(id) {
            row.parked = row.parked.max(parked);
        }
        Ok(())
    }

    fn mark_told(&mut self, id: &str) -> Result<(), Infallible> {
        if let Some(row) = self.rows.get_mut(id) {
            row.untold = false;
        }
        Ok(())
    }
}
