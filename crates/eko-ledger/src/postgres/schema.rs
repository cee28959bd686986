//! Finds the ledger's tables, makes what is missing of them, and moves those of an older version.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::address::Address;
use super::home::Home;
use super::{ConnectionError, meta};
use crate::Error;
use crate::meta::Opening;

/// Each migration once, in order; `schema_version` counts those that were applied.
const MIGRATIONS: [&str; 7] = [
    include_str!("../../migrations/postgres/0001_commands.sql"),
    include_str!("../../migrations/postgres/0002_hot.sql"),
    include_str!("../../migrations/postgres/0003_moments.sql"),
    include_str!("../../migrations/postgres/0004_memory.sql"),
    include_str!("../../migrations/postgres/0005_home.sql"),
    include_str!("../../migrations/postgres/0006_operators.sql"),
    include_str!("../../migrations/postgres/0007_slots.sql"),
];

/// The newest schema.
pub(super) const NEWEST: usize = MIGRATIONS.len();

/// The one advisory lock under which schema and digest key come about.
const MIGRATION_LOCK: i64 = 0x0065_6b6f_5f73_716c;

/// What a ledger needs besides letters of every script: bytes that stay as they are.
const ENCODINGS: [&str; 2] = ["UTF8", "SQL_ASCII"];

/// Where the tables were found.
pub(super) struct Found {
    pub(super) schema: String,
    /// How many migrations they have seen.
    pub(super) applied: usize,
}

/// Applies what is missing of the schema, and settles id and digest key; the key.
pub(super) async fn prepare(
    client: &Client,
    address: &Address,
    opening: &Opening,
) -> Result<Vec<u8>, ConnectionError> {
    ensure_letters(client).await?;
    let home = Home::of(client).await?;
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
    let lock = "SELECT pg_advisory_xact_lock($1)";
    client.execute_typed(lock, &[(&MIGRATION_LOCK, Type::INT8)]).await?;
    let found = find(client, address).await?;
    if let Some(found) = &found {
        found.ensure_known()?;
    }
    let applied = found.as_ref().map_or(0, |found| found.applied);
    make_schema(client, &address.schema).await?;
    if let Some(found) = found.filter(|found| found.schema != address.schema) {
        take_along(client, &found.schema, &address.schema).await?;
    }
    client.batch_execute(&format!("SET LOCAL search_path = {}", quoted(&address.schema))).await?;
    for migration in MIGRATIONS.iter().skip(applied) {
        client.batch_execute(migration).await?;
    }
    let newest = i64::try_from(NEWEST).unwrap_or(i64::MAX);
    client
        .batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS schema_version (applied BIGINT NOT NULL);
             DELETE FROM schema_version; INSERT INTO schema_version VALUES ({newest})"
        ))
        .await?;
    let (key, copied) = meta::settle(client, opening, &home).await?;
    client.batch_execute("COMMIT").await?;
    if let Some(copied) = copied {
        tracing::warn!(
            copied,
            place = address.place(),
            "this database is a copy of the ledger's database, or was restored from a dump: it has \
             got a ledger id of its own, and may use the queues of the original only after \
             LEDGER_ADOPT=true"
        );
    }
    Ok(key)
}

/// Where the tables are: in the ledger's own schema, or where a version before this one has made them,
/// which is wherever the user's `search_path` leads.
pub(super) async fn find(
    client: &Client,
    address: &Address,
) -> Result<Option<Found>, ConnectionError> {
    let own = format!("{}.schema_version", quoted(&address.schema));
    let exists = "SELECT to_regclass($1) IS NOT NULL";
    if client.query_typed_one(exists, &[(&own, Type::TEXT)]).await?.get(0) {
        return found(client, address.schema.clone()).await.map(Some);
    }
    if address.names_schema {
        return Ok(None);
    }
    // Another program may have a table of this name.
    let previous =
        "SELECT n.nspname::text FROM pg_class v JOIN pg_namespace n ON n.oid = v.relnamespace
        WHERE v.oid = to_regclass('schema_version')
            AND EXISTS (SELECT FROM pg_attribute WHERE attname = 'digest_key'
                AND attrelid = to_regclass(format('%I.meta', n.nspname)))
            AND EXISTS (SELECT FROM pg_attribute WHERE attname = 'lease_token'
                AND attrelid = to_regclass(format('%I.commands', n.nspname)))";
    match client.query_typed_opt(previous, &[]).await? {
        Some(row) => found(client, row.get(0)).await.map(Some),
        None => Ok(None),
    }
}

async fn found(client: &Client, schema: String) -> Result<Found, ConnectionError> {
    let select = format!("SELECT applied FROM {}.schema_version", quoted(&schema));
    let applied: i64 = client.query_typed_opt(&select, &[]).await?.map_or(0, |row| row.get(0));
    Ok(Found { schema, applied: usize::try_from(applied).unwrap_or(usize::MAX) })
}

impl Found {
    /// Whether this program knows what it found.
    pub(super) fn ensure_known(&self) -> Result<(), Error> {
        if self.applied <= NEWEST {
            Ok(())
        } else {
            Err(Error::Unfit(format!(
                "it was written by a newer version of eko-worker (schema {}): use that version or \
                 a later one",
                self.applied
            )))
        }
    }
}

/// Makes the schema, unless an administrator has made it for a user who may not.
async fn make_schema(client: &Client, schema: &str) -> Result<(), ConnectionError> {
    let exists = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
    if client.query_typed_one(exists, &[(&schema, Type::TEXT)]).await?.get(0) {
        return Ok(());
    }
    let made = client.batch_execute(&format!("CREATE SCHEMA {}", quoted(schema))).await;
    made.map_err(|error| match error.code() {
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => Error::Unfit(format!(
            "the user may not create the schema {schema}: an administrator must run CREATE SCHEMA \
             {schema} AUTHORIZATION and the user's name, once"
        ))
        .into(),
        _ => error.into(),
    })
}

/// Moves the tables of an older version. Its `schema_version` stays and names the newest schema, so
/// that an older program refuses the database in place of beginning a new ledger there.
async fn take_along(client: &Client, from: &str, to: &str) -> Result<(), ConnectionError> {
    let (old, new) = (quoted(from), quoted(to));
    let mut moves: String = ["meta", "commands", "commits"]
        .map(|table| format!("ALTER TABLE IF EXISTS {old}.{table} SET SCHEMA {new};"))
        .concat();
    moves.push_str(&format!("UPDATE {old}.schema_version SET applied = {NEWEST}"));
    client.batch_execute(&moves).await?;
    tracing::info!(from, to, "the ledger's tables were moved from the old schema to the new one");
    Ok(())
}

/// A database of one script would refuse what Eko says in another one.
async fn ensure_letters(client: &Client) -> Result<(), ConnectionError> {
    let row = client.query_typed_one("SELECT current_setting('server_encoding')", &[]).await?;
    let encoding: String = row.get(0);
    if ENCODINGS.contains(&encoding.as_str()) {
        Ok(())
    } else {
        Err(Error::Unfit(format!(
            "its encoding is {encoding}, which cannot store every character that Eko may send: \
             create a database with encoding UTF8 (createdb --encoding=UTF8 --template=template0)"
        ))
        .into())
    }
}

/// An identifier as SQL takes it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
