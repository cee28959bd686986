//! The ledger in memory, for `exploration`: the stores' rules over rows that states share.

use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::rules::{self, Circumstances, Finished, Holders, Row, TidState};
use super::{Ask, Case, Claim, Held, Then, Write};
use crate::event::Event;
use crate::history::History;

/// All rows, shared with the states that came before.
#[derive(Clone, Default)]
pub(crate) struct Store {
    rows: Vec<Rc<Row>>,
}

/// Who shares the store, and the bugs planted in it.
#[derive(Clone, Copy)]
pub(crate) struct Sharing {
    /// One process, in its so manieth life; or many workers.
    pub(crate) process: Option<u64>,
    /// Any number of unfinished refunds for one tid.
    pub(crate) has_no_tid_lock: bool,
    /// A command that is known is not told what became of its tid.
    pub(crate) forgets_refunded: bool,
}

impl Store {
    /// Claims a command.
    pub(crate) fn claim(&mut self, ask: &Ask, token: u64, sharing: Sharing) -> Claim {
        let row = self.row(&ask.id).cloned();
        let forgets = row.is_some() && sharing.forgets_refunded;
        let mut tid = rules::tid_that_matters(row.as_ref(), ask)
            .filter(|_| !forgets)
            .map(|tid| self.tid_state(tid))
            .unwrap_or_default();
        tid.is_busy &= !sharing.has_no_tid_lock;
        let holders = match sharing.process {
            Some(epoch) => Holders::Process { epoch },
            None => Holders::Fleet,
        };
        let circumstances = Circumstances { holders, caution: None, now: ask.now.wall };
        let (claim, changed) = rules::claim(row, &tid, ask, token, circumstances).unwrap();
        self.keep(changed);
        claim
    }

    /// Records that a call begins.
    pub(crate) fn begin(&mut self, case: &Case, lease: Duration, now: Timestamp) -> Held {
        self.write(case, Then::Call { lease }, now)
    }

    /// Records what is known, and how long the command waits.
    pub(crate) fn note(
        &mut self,
        case: &Case,
        delay: Duration,
        unsettled: bool,
        now: Timestamp,
    ) -> Held {
        self.write(case, Then::Wait { delay, unsettled }, now)
    }

    /// Records how a command ended.
    pub(crate) fn finish(
        &mut self,
        case: &Case,
        event: &Event,
        is_untold: bool,
        now: Timestamp,
    ) -> Held {
        self.write(case, Then::Finish { end: Finished::by(event), is_untold }, now)
    }

    /// Records that a copy is safe.
    pub(crate) fn parked(&mut self, id: &str, parked: u32) {
        if let Some(row) = self.row(id).filter(|row| row.parked < parked) {
            let row = Row { parked, ..row.clone() };
            self.keep(Some(row));
        }
    }

    /// The outcome that a command's row tells.
    pub(crate) fn outcome(&self, id: &str) -> Option<&str> {
        self.row(id)?.finished.as_ref().map(|finished| finished.outcome.as_str())
    }

    /// The claims that rows name.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = u64> {
        self.rows.iter().filter_map(|row| row.lease.map(|lease| lease.token))
    }

    fn write(&mut self, case: &Case, then: Then, now: Timestamp) -> Held {
        let write = Write::of(case.clone(), then);
        let Some(mut row) = self.row(&case.id).cloned() else {
            return Held::Lost;
        };
        let held = rules::write(&mut row, write, now);
        self.keep((held == Held::Yes).then_some(row));
        held
    }

    fn row(&self, id: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id).map(AsRef::as_ref)
    }

    fn keep(&mut self, row: Option<Row>) {
        let Some(row) = row.map(Rc::new) else {
            return;
        };
        match self.rows.iter_mut().find(|kept| kept.id == row.id) {
            Some(kept) => *kept = row,
            None => {
                self.rows.push(row);
                self.rows.sort_by(|one, other| one.id.cmp(&other.id));
            }
        }
    }

    /// What the stores read of a tid.
    fn tid_state(&self, tid: &str) -> TidState {
        let mut state = TidState::default();
        for row in self.rows.iter().filter(|row| row.tid.as_deref() == Some(tid)) {
            state.add(row.finished.clone(), row.doubted_since().is_some());
        }
        state
    }
}

/// The claim that a case is held by.
pub(crate) fn token(case: &Case) -> u64 {
    case.token
}

impl Hash for Store {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for row in &self.rows {
            row.id.hash(state);
            // Of a command that has ended, its history only says whether it was in doubt.
            match row.finished {
                Some(_) => row.doubted_since().is_some().hash(state),
                None => hash_history(&row.history, state),
            }
            row.lease.map(|lease| (lease.token, lease.until)).hash(state);
            (row.due, row.parked, row.interruptions, row.unsettled, row.untold).hash(state);
            if let Some(finished) = &row.finished {
                (finished.at, &finished.outcome, &finished.event).hash(state);
            }
        }
    }
}

/// Hashes a case as a state of the world holds it.
pub(crate) fn hash_case<H: Hasher>(case: &Case, state: &mut H) {
    case.id.hash(state);
    (case.token, case.parked, case.interruptions).hash(state);
    hash_history(&case.history, state);
}

fn hash_history<H: Hasher>(history: &History, state: &mut H) {
    use crate::history::Entry;
    use crate::verdict::{Reading, Verdict};
    history.first_received.hash(state);
    history.measured_by().hash(state);
    history.entries.len().hash(state);
    for entry in &history.entries {
        match entry {
            Entry::Attempt(attempt) => {
                (0_u8, attempt.began, attempt.age).hash(state);
                attempt.signed.map(|signed| (signed.stamp, signed.lead)).hash(state);
                if let Some(ended) = &attempt.ended {
                    (ended.at, ended.age, ended.verdict.as_str()).hash(state);
                    match &ended.verdict {
                        Verdict::NotNow { cause, .. } | Verdict::Unclear { cause, .. } => {
                            cause.hash(state);
                        }
                        Verdict::Done(..) | Verdict::Refused(_) => {}
                    }
                }
            }
            Entry::Inquiry(inquiry) => {
                (1_u8, inquiry.reading.as_str()).hash(state);
                // Nothing is decided by when it was first read.
                (inquiry.last, inquiry.times, inquiry.age, inquiry.eko_time).hash(state);
                if let Reading::NoAnswer(cause) = inquiry.reading {
                    cause.hash(state);
                }
            }
            Entry::Suspicion(suspicion) => {
                let why = std::mem::discriminant(&suspicion.why);
                (2_u8, suspicion.at, suspicion.age, suspicion.before, why).hash(state);
            }
        }
    }
}
