//! The slots of calls, in the table `slots` of one row a key.

use std::sync::Arc;

use futures_util::future::join;
use tokio_postgres::types::Type;

use super::link::{ConnectionError, Session};
use crate::slots::{SlotBlock, SlotRequest, SlotRow, take};

/// The row, up to where a version before this one has given out timestamps, and the server's time.
const LOOK: &str = "SELECT next, earlier, stamps_until,
        (extract(epoch from clock_timestamp()) * 1000000)::bigint
    FROM meta LEFT JOIN slots ON key = $1";

const ADD: &str = "INSERT INTO slots VALUES ($1, $2, $3) ON CONFLICT (key) DO NOTHING";

/// Writes nothing where somebody else has taken slots since they were looked at.
const ADVANCE: &str = "UPDATE slots SET next = $2, earlier = $3 WHERE key = $1 AND next = $4";

/// Takes slots, at the server's time. A block that is taken once more after a failure is one that
/// nobody uses.
pub(super) async fn take_slots(
    session: Arc<Session>,
    request: &SlotRequest,
) -> Result<SlotBlock, ConnectionError> {
    loop {
        if let Some(block) = try_take(&session, request).await? {
            return Ok(block);
        }
    }
}

/// `None` where somebody else was faster. All workers write this row, so it is locked only from a write
/// to the commit that leaves with it: a worker that stands still holds up no other one.
async fn try_take(
    session: &Session,
    request: &SlotRequest,
) -> Result<Option<SlotBlock>, ConnectionError> {
    let (client, key) = (&session.client, &request.key);
    let whose = [(key as _, Type::TEXT)];
    let (begun, looked) = join(session.begin(), client.query_typed_one(LOOK, &whose)).await;
    begun?;
    let looked = looked?;
    let (next, earlier): (Option<i64>, Option<i64>) = (looked.get(0), looked.get(1));
    let (stamps_until, ledger_time): (Option<i64>, i64) = (looked.get(2), looked.get(3));
    let known = next.map(|next| SlotRow { next, earlier });
    let row = known.or_else(|| SlotRow::behind(stamps_until, ledger_time));
    let (block, SlotRow { next: after, earlier }) = take(row, request, ledger_time);
    let write = async {
        let new = [(key as _, Type::TEXT), (&after as _, Type::INT8), (&earlier as _, Type::INT8)];
        match next {
            None => client.execute_typed(ADD, &new).await,
            Some(next) => {
                let [key, after, earlier] = new;
                let new = [key, after, earlier, (&next as _, Type::INT8)];
                client.execute_typed(ADVANCE, &new).await
            }
        }
    };
    let (written, committed) = join(write, client.batch_execute("COMMIT")).await;
    // The commit of a transaction whose write failed "succeeds" as a rollback.
    let written = written?;
    committed?;
    Ok((written == 1).then_some(block))
}
