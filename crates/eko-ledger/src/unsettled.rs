//! Refunds of which nobody knows whether they were executed: in doubt, or given up as `unresolved`.

use jiff::Timestamp;
use serde::Serialize;

use super::row::Row;
use super::{Settings, postgres, sqlite};
use eko_core::history::{Entry, Inquiry};
use eko_core::outcome::OutcomeName;

/// What a ledger knows of such refunds.
#[derive(Clone, Debug)]
pub struct Unsettled {
    /// The store's own time.
    pub now: Timestamp,
    /// The refunds, those in doubt for longest first.
    pub refunds: Vec<UnsettledRefund>,
}

/// A refund of which nobody knows whether it was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnsettledRefund {
    /// Its command's id.
    pub id: String,
    /// The transaction.
    pub tid: Option<String>,
    /// Whether the worker goes on inquiring.
    pub state: UnsettledState,
    /// Since when it has been in doubt.
    pub since: Timestamp,
    /// How often Eko was called for it.
    pub attempts: u32,
    /// What the last inquiry read.
    pub last_reading: Option<LastReading>,
    /// When the worker inquires next, where it waits for that.
    pub next_inquiry: Option<Timestamp>,
    /// When it was given up.
    pub finished: Option<Timestamp>,
}

/// Whether the worker goes on inquiring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnsettledState {
    /// It does.
    InDoubt,
    /// It has given the refund up.
    Unresolved,
}

impl UnsettledState {
    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InDoubt => "in_doubt",
            Self::Unresolved => "unresolved",
        }
    }
}

/// What the last inquiries in a row read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastReading {
    /// The word for it.
    pub reading: &'static str,
    /// When it was last read.
    pub at: Timestamp,
    /// How often in a row.
    pub times: u32,
}

/// What a store has found: its own time, and the rows that may be meant.
pub(super) type Found = (Timestamp, Vec<Row>);

/// Refunds that may have been executed and have not ended, for a store's SQL.
pub(super) const OPEN: &str =
    "finished IS NULL AND kind = 'refund' AND doubted_since IS NOT NULL ORDER BY first_received";

/// Refunds that were given up, for a store's SQL.
pub(super) const UNRESOLVED: &str = "outcome = 'unresolved' AND kind = 'refund' ORDER BY finished";

/// Lists the refunds of which nobody knows whether they were executed. Reads only, also beside
/// running workers.
///
/// # Errors
/// Where the ledger cannot be read.
pub async fn unsettled(settings: &Settings) -> anyhow::Result<Unsettled> {
    let (now, rows) = match settings {
        Settings::Sqlite { path } => sqlite::unsettled(path)?,
        Settings::Postgres(server) => postgres::unsettled(server).await?,
        Settings::Memory => anyhow::bail!("a ledger in memory cannot be shared"),
    };
    let mut refunds: Vec<_> = rows.iter().filter_map(|row| read(row, now)).collect();
    refunds.sort_by_key(|refund| refund.since);
    Ok(Unsettled { now, refunds })
}

/// What is known of a row; `None` where it is not meant.
fn read(row: &Row, now: Timestamp) -> Option<UnsettledRefund> {
    row.refund_of()?;
    let since = row.doubted_since();
    let state = match &row.finished {
        Some(end) if end.outcome == OutcomeName::Unresolved => UnsettledState::Unresolved,
        Some(_) => return None,
        None if since.is_none() || is_calling(row, now) => return None,
        // It waits for another attempt: its readings have shown that it was not executed.
        None if row.due.is_some() && !row.unsettled => return None,
        None => UnsettledState::InDoubt,
    };
    Some(UnsettledRefund {
        id: row.id.clone(),
        tid: row.tid.clone(),
        state,
        since: since.unwrap_or(row.history.first_received),
        attempts: row.history.attempts(),
        last_reading: row.history.entries.iter().rev().find_map(last_reading),
        next_inquiry: row.due,
        finished: row.finished.as_ref().map(|end| end.at),
    })
}

/// Whether its call is under way, as it seems: it is not in doubt before that has ended.
fn is_calling(row: &Row, now: Timestamp) -> bool {
    row.history.in_flight() && row.lease.is_some_and(|lease| lease.until > now)
}

fn last_reading(entry: &Entry) -> Option<LastReading> {
    match entry {
        Entry::Inquiry(Inquiry { reading, last, times, .. }) => {
            Some(LastReading { reading: reading.as_str(), at: *last, times: *times })
        }
        Entry::Attempt(_) | Entry::Suspicion(_) => None,
    }
}
