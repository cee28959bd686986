//! The statements of people, beside a running worker: without its lock.

use std::path::Path;

use anyhow::Context as _;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::{BUSY_TIMEOUT, MIGRATIONS, applied};
use crate::operator::{Column, Parameter, Record};

/// A connection of its own on a ledger's file.
pub(crate) struct OperatorStore {
    connection: Connection,
    place: String,
}

impl OperatorStore {
    /// Opens a file that is a ledger of this version.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let place = path.display().to_string();
        let cannot = || format!("cannot use the ledger {place}");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).with_context(cannot)?;
        connection.busy_timeout(BUSY_TIMEOUT).with_context(cannot)?;
        connection.pragma_update(None, "synchronous", "FULL").with_context(cannot)?;
        let applied = applied(&connection).with_context(cannot)?;
        anyhow::ensure!(applied > 0, "{place} holds no ledger");
        anyhow::ensure!(
            applied == MIGRATIONS.len(),
            "the ledger {place} is of an older version of eko-worker (schema {applied}): start a \
             worker of this version first"
        );
        Ok(Self { connection, place })
    }

    /// Runs one statement; what it gives.
    pub(crate) fn rows(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> anyhow::Result<Vec<Record>> {
        rows(&self.connection, sql, parameters)
            .with_context(|| format!("cannot use the ledger {}", self.place))
    }
}

/// Runs one statement; what it gives.
pub(super) fn rows(
    connection: &Connection,
    sql: &str,
    parameters: &[Parameter<'_>],
) -> rusqlite::Result<Vec<Record>> {
    let mut statement = connection.prepare_cached(sql)?;
    let count = statement.column_count();
    let values = parameters.iter().map(|parameter| match parameter {
        Parameter::Text(text) => text.map_or(Value::Null, |text| Value::Text(text.to_owned())),
        Parameter::Number(number) => Value::Integer(*number),
    });
    let read = |row: &rusqlite::Row<'_>| (0..count).map(|at| column(row.get_ref(at)?)).collect();
    statement.query_map(params_from_iter(values), read)?.collect()
}

fn column(value: ValueRef<'_>) -> rusqlite::Result<Column> {
    Ok(match value {
        ValueRef::Null => Column::Null,
        ValueRef::Integer(number) => Column::Number(number),
        value => Column::Text(value.as_str()?.to_owned()),
    })
}
