//! What the connection's task does in one transaction each.

use std::sync::Arc;

use futures_util::future::{join, join5};
use jiff::Timestamp;

use super::link::{ConnectionError, Session};
use super::loaded::{Loaded, Subjects};
use super::meta::{self, Glance};
use super::{operator, rows, schema};
use crate::meta::{Change, Meta};
use crate::operator::{OperatorPause, PAUSES, PRUNE_AUDIT, Parameter, read_pauses};
use crate::row::Row;
use crate::{BacklogCounts, Error, Stranded};

/// What became of a batch, before it is committed.
pub(super) struct Settled {
    /// Its rows, and which of them are to be written.
    pub(super) rows: Loaded,
    /// Whether the ledger has lost what it had committed, as far as this batch shows.
    pub(super) has_forgotten: bool,
}

/// Takes the locks, then loads what they guard, and how often this worker has committed. The
/// statements leave together, in the order in which `join5` polls them first, and the server runs
/// them one after the other, each with a snapshot of its own.
pub(super) async fn load(
    session: Arc<Session>,
    subjects: &Subjects,
    worker: i64,
    retention: i64,
) -> Result<(Vec<Row>, Glance), ConnectionError> {
    let (client, statements) = (&session.client, &session.statements);
    let locks = subjects.locks();
    let ids: Vec<&str> = subjects.ids.iter().map(String::as_str).collect();
    let tids: Vec<&str> = subjects.tids.iter().map(String::as_str).collect();
    let (begun, locked, known, refunds, glance) = join5(
        session.begin(),
        statements.lock.run(client, &[&locks]),
        statements.by_id.run(client, &[&ids]),
        statements.by_tid.run(client, &[&tids]),
        statements.glance.run(client, &[&worker, &retention, &session.promoted]),
    )
    .await;
    begun?;
    locked?;
    let (known, refunds, glance) = (known?, refunds?, meta::glance(&glance?, &session)?);
    // A row that comes twice counts as the later statement saw it.
    let rows: Result<Vec<Row>, Error> = known.iter().chain(&refunds).map(rows::read).collect();
    Ok((rows?, glance))
}

/// Commits; how many commits that counts as.
pub(super) async fn commit(
    session: Arc<Session>,
    settled: &Settled,
    worker: i64,
) -> Result<u64, ConnectionError> {
    let (client, statements) = (&session.client, &session.statements);
    let changed = settled.rows.changed();
    if settled.has_forgotten {
        meta::change(client, Change::Forget).await?;
    } else if changed.is_empty() {
        client.batch_execute("COMMIT").await?;
        return Ok(0);
    }
    let write = rows::upsert(client, &statements.upsert, &changed, worker);
    let (written, committed) = join(write, client.batch_execute("COMMIT")).await;
    // The commit of a transaction whose write failed "succeeds" as a rollback.
    written?;
    committed?;
    Ok(1)
}

pub(super) async fn read_meta(
    session: Arc<Session>,
    change: Change,
) -> Result<Meta, ConnectionError> {
    let read = async {
        meta::change(&session.client, change).await?;
        meta::load(&session.client, schema::NEWEST, session.timeline.as_deref()).await
    };
    session.transaction(read).await
}

pub(super) async fn own_commits(
    session: Arc<Session>,
    worker: i64,
) -> Result<u64, ConnectionError> {
    session.transaction(meta::own_commits(&session.client, worker)).await
}

pub(super) async fn promise(session: Arc<Session>) -> Result<String, ConnectionError> {
    session.transaction(meta::promise(&session.client)).await
}

pub(super) async fn is_empty(session: Arc<Session>) -> Result<bool, ConnectionError> {
    let select = "SELECT NOT EXISTS (SELECT 1 FROM commands)";
    let selected = async { Ok(session.client.query_typed_one(select, &[]).await?.get(0)) };
    session.transaction(selected).await
}

pub(super) async fn backlog_counts(
    session: Arc<Session>,
) -> Result<BacklogCounts, ConnectionError> {
    session.transaction(rows::backlog_counts(&session.client)).await
}

pub(super) async fn stranded(
    session: Arc<Session>,
    most: u32,
) -> Result<Stranded, ConnectionError> {
    session.transaction(rows::stranded(&session.client, most)).await
}

pub(super) async fn prune(
    session: Arc<Session>,
    before: Timestamp,
    most: u32,
) -> Result<u32, ConnectionError> {
    session.transaction(rows::prune(&session.client, before, most)).await
}

pub(super) async fn operator_pauses(
    session: Arc<Session>,
) -> Result<Vec<OperatorPause>, ConnectionError> {
    let found = session.transaction(operator::rows(&session.client, PAUSES, &[])).await?;
    Ok(read_pauses(found)?)
}

pub(super) async fn prune_audit(
    session: Arc<Session>,
    before: Timestamp,
    most: u32,
) -> Result<u32, ConnectionError> {
    let parameters = [before.as_millisecond(), most.into()].map(Parameter::Number);
    let forget = operator::rows(&session.client, PRUNE_AUDIT, &parameters);
    let forgotten = session.transaction(forget).await?;
    Ok(u32::try_from(forgotten.len()).unwrap_or(u32::MAX))
}

/// PostgreSQL writes a new version of the row although nothing in it changes.
pub(super) async fn probe(session: Arc<Session>) -> Result<(), ConnectionError> {
    let update = "UPDATE meta SET digest_key = digest_key";
    session.transaction(async { Ok(session.client.batch_execute(update).await?) }).await
}
