//! The slots of calls, in the table `slots` of one row a key.

use rusqlite::{Connection, OptionalExtension as _};

use crate::slots::{SlotBlock, SlotRequest, SlotRow, take};

/// Microseconds since the epoch, by the host's clock, and up to where a version before this one has
/// given out timestamps.
const LOOK: &str = "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER), stamps_until FROM meta";

/// Takes slots, at the host's time.
pub(super) fn take_from(
    connection: &Connection,
    request: &SlotRequest,
) -> rusqlite::Result<SlotBlock> {
    let mut look = connection.prepare_cached(LOOK)?;
    let (ledger_time, stamps_until) = look.query_row((), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let known = connection
        .prepare_cached("SELECT next, earlier FROM slots WHERE key = ?1")?
        .query_row([&request.key], |row| Ok(SlotRow { next: row.get(0)?, earlier: row.get(1)? }))
        .optional()?;
    let row = known.or_else(|| SlotRow::behind(stamps_until, ledger_time));
    let (block, SlotRow { next, earlier }) = take(row, request, ledger_time);
    connection.prepare_cached("REPLACE INTO slots VALUES (?1, ?2, ?3)")?.execute((
        &request.key,
        next,
        earlier,
    ))?;
    Ok(block)
}
