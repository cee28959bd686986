//! The statements of people, on a connection of their own.

use anyhow::Context as _;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::link::{self, ConnectionError, Link};
use super::{Server, connect, schema};
use crate::operator::{Column, Parameter, Record};

/// The way to a ledger's database, and the connection, once there is one.
pub(crate) struct OperatorStore {
    link: Link,
    connected: Option<Connected>,
}

struct Connected {
    client: Client,
    /// What begins each transaction.
    begin: String,
}

impl OperatorStore {
    /// Connects to a database that has a ledger of this version.
    pub(crate) async fn open(server: &Server) -> anyhow::Result<Self> {
        let mut link = Link::new(server.clone());
        let connected = Some(begin(&mut link).await?);
        Ok(Self { link, connected })
    }

    /// Runs one statement in a transaction of its own; what it gives. Nothing is done twice.
    pub(crate) async fn rows(
        &mut self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> anyhow::Result<Vec<Record>> {
        // A person may have thought for long since the last statement.
        let connected = match self.connected.take().filter(|it| !it.client.is_closed()) {
            Some(connected) => connected,
            None => begin(&mut self.link).await?,
        };
        let run = async {
            connected.client.batch_execute(&connected.begin).await?;
            let rows = rows(&connected.client, sql, parameters).await?;
            connected.client.batch_execute("COMMIT").await?;
            Ok::<_, ConnectionError>(rows)
        };
        let rows = run.await.map_err(|error| self.link.told(&error));
        let rows = rows.context("cannot use the ledger's database")?;
        self.connected = Some(connected);
        Ok(rows)
    }
}

async fn begin(link: &mut Link) -> anyhow::Result<Connected> {
    let client = connect(link).await.context("cannot use the ledger's database")?;
    let found = schema::find(&client, link.address()).await;
    let found = found.map_err(|error| link.told(&error))?;
    let found = found.context("the database holds no ledger")?;
    found.ensure_known()?;
    anyhow::ensure!(
        found.applied == schema::NEWEST,
        "the ledger is of an older version of eko-worker (schema {}): start a worker of this \
         version first",
        found.applied
    );
    Ok(Connected { client, begin: link::begin(&found.schema) })
}

/// Runs one statement; what it gives.
pub(super) async fn rows(
    client: &Client,
    sql: &str,
    parameters: &[Parameter<'_>],
) -> Result<Vec<Record>, ConnectionError> {
    let typed: Vec<(&(dyn ToSql + Sync), Type)> = parameters
        .iter()
        .map(|parameter| match parameter {
            Parameter::Text(text) => (text as &(dyn ToSql + Sync), Type::TEXT),
            Parameter::Number(number) => (number as &(dyn ToSql + Sync), Type::INT8),
        })
        .collect();
    let rows = client.query_typed(sql, &typed).await?;
    Ok(rows.iter().map(|row| (0..row.len()).map(|at| column(row, at)).collect()).collect())
}

fn column(row: &tokio_postgres::Row, at: usize) -> Column {
    if *row.columns()[at].type_() == Type::INT8 {
        row.get::<_, Option<i64>>(at).map_or(Column::Null, Column::Number)
    } else {
        row.get::<_, Option<String>>(at).map_or(Column::Null, Column::Text)
    }
}
