//! The ledger in memory: the same rules without a store, to measure what a store costs.
//!
//! Nothing outlives the process: no `LEDGER_URL` leads to it, only `eko-bench` asks for it.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::rules::{self, Circumstances, LeaseScope, Row, TidState};
use super::{
    BacklogCounts, Claim, ClaimRequest, Error, Identity, LeaseStatus, Meta, Opened, Opening,
    Request, Stranded, Write,
};

/// How many requests are taken at once, as the stores do.
const BATCH: usize = 512;

/// Starts its task.
pub(super) fn open(opening: &Opening, inbox: mpsc::Receiver<Request>) -> Opened {
    let lease_scope = LeaseScope::Process { epoch: u64::from(opening.epoch) << 32 };
    let memory = Memory { lease_scope, rows: HashMap::new(), refunds: HashMap::new() };
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
    rows: HashMap<String, Row>,
    /// The refunds of each tid.
    refunds: HashMap<String, Vec<String>>,
}

impl Memory {
    async fn serve(mut self, mut inbox: mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(BATCH);
        while inbox.recv_many(&mut batch, BATCH).await > 0 {
            batch.drain(..).for_each(|request| self.answer(request));
        }
    }

    /// Whoever asked may have gone meanwhile: the process is stopping.
    fn answer(&mut self, request: Request) {
        match request {
            Request::Claim { request, token, reply } => {
                drop(reply.send(self.claim(&request, token)))
            }
            Request::Write { write, reply } => drop(reply.send(Ok(self.write(*write)))),
            Request::Parked { id, parked } => {
                if let Some(row) = self.rows.get_mut(&id) {
                    row.parked = row.parked.max(parked);
                }
            }
            Request::Told { id } => {
                if let Some(row) = self.rows.get_mut(&id) {
                    row.untold = false;
                }
            }
            Request::Stranded { reply, .. } => drop(reply.send(Ok(Stranded::default()))),
            Request::BacklogCounts { reply } => drop(reply.send(Ok(BacklogCounts::default()))),
            Request::Meta { reply, .. } => drop(reply.send(Ok(Meta::default()))),
            Request::Prune { reply, .. } => drop(reply.send(Ok(0))),
            Request::Probe { reply } => drop(reply.send(Ok(()))),
        }
    }

    fn claim(&mut self, request: &ClaimRequest, token: u64) -> Result<Claim, Error> {
        let circumstances = self.circumstances();
        let row = self.rows.get(&request.id).cloned();
        let mut tid = TidState::default();
        if let Some(refunds) =
            rules::tid_that_matters(row.as_ref(), request).and_then(|tid| self.refunds.get(tid))
        {
            for row in refunds.iter().filter_map(|id| self.rows.get(id)) {
                tid.add(row.finished.clone(), row.doubted_since().is_some());
            }
        }
        let (claim, changed) = rules::claim(row, &tid, request, token, circumstances)?;
        self.keep(changed);
        Ok(claim)
    }

    fn write(&mut self, write: Write) -> LeaseStatus {
        let now = self.circumstances().now;
        self.rows.get_mut(&write.id).map_or(LeaseStatus::Lost, |row| rules::write(row, write, now))
    }

    #[expect(clippy::disallowed_methods, reason = "the store's own time")]
    fn circumstances(&self) -> Circumstances {
        Circumstances { lease_scope: self.lease_scope, caution: None, now: Timestamp::now() }
    }

    fn keep(&mut self, row: Option<Row>) {
        let Some(row) = row else {
            return;
        };
        let id = row.id.clone();
        let refund_of = row.tid.clone().filter(|_| row.kind == "refund");
        let is_new = self.rows.insert(id.clone(), row).is_none();
        if let Some(tid) = refund_of.filter(|_| is_new) {
            self.refunds.entry(tid).or_default().push(id);
        }
    }
}
