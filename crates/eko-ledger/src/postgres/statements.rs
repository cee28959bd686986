//! The statements of every batch. Where a connection leads to one process of the server they are
//! prepared once; a pool's other clients have statements of the same names there, so by way of a pool
//! each is sent whole and has no name.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::{meta, rows};

/// A statement, its parameters' types, and what it is once it was prepared.
pub(super) struct Statement {
    sql: String,
    types: Vec<Type>,
    prepared: Option<tokio_postgres::Statement>,
}

/// The statements of one connection.
pub(super) struct Statements {
    /// Takes advisory locks in the order given.
    pub(super) lock: Statement,
    /// Loads commands by id.
    pub(super) by_id: Statement,
    /// Loads refunds by tid.
    pub(super) by_tid: Statement,
    /// Writes rows.
    pub(super) upsert: Statement,
    /// Reads what each batch looks at first.
    pub(super) glance: Statement,
}

impl Statement {
    fn new(sql: String, types: Vec<Type>) -> Self {
        Self { sql, types, prepared: None }
    }

    async fn prepare(&mut self, client: &Client) -> Result<(), tokio_postgres::Error> {
        self.prepared = Some(client.prepare_typed(&self.sql, &self.types).await?);
        Ok(())
    }

    /// Runs it; what it gives.
    pub(super) async fn run(
        &self,
        client: &Client,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        match &self.prepared {
            Some(prepared) => client.query(prepared, parameters).await,
            None => {
                let parameters = parameters.iter().copied().zip(self.types.iter().cloned());
                client.query_typed(&self.sql, &parameters.collect::<Vec<_>>()).await
            }
        }
    }
}

impl Statements {
    /// As they are sent. `timeline`: the server tells which one it writes.
    pub(super) fn new(timeline: Option<&str>) -> Self {
        let lock = "SELECT pg_advisory_xact_lock(key) FROM unnest($1::bigint[]) AS key".to_owned();
        Self {
            lock: Statement::new(lock, vec![Type::INT8_ARRAY]),
            by_id: Statement::new(rows::by_id(), vec![Type::TEXT_ARRAY]),
            by_tid: Statement::new(rows::by_tid(), vec![Type::TEXT_ARRAY]),
            upsert: Statement::new(rows::UPSERT.to_owned(), rows::upsert_types()),
            glance: Statement::new(meta::glance_sql(timeline), vec![Type::INT8; 3]),
        }
    }

    /// Prepares them, in a transaction as each batch has one.
    pub(super) async fn prepare(&mut self, client: &Client) -> Result<(), tokio_postgres::Error> {
        let Self { lock, by_id, by_tid, upsert, glance } = self;
        for statement in [lock, by_id, by_tid, upsert, glance] {
            statement.prepare(client).await?;
        }
        Ok(())
    }
}
