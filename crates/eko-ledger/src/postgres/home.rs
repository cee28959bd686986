//! Which database a ledger is kept in, so that a copy of it is told from it.

use tokio_postgres::Client;

use super::ConnectionError;

/// What a database has that no copy of it has: a dump that is restored elsewhere differs in both, one
/// that is restored beside it, and a database made from it as a template, in the second. A standby has
/// both of its primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Home {
    /// The cluster's identifier, drawn when it was made; `None` where the server does not tell.
    pub(super) system: Option<String>,
    /// The database's number within its cluster; `None` in a ledger of an older version.
    pub(super) database: Option<i64>,
}

impl Home {
    /// Where a connection leads, outside of a transaction: a server may not tell.
    pub(super) async fn of(client: &Client) -> Result<Self, ConnectionError> {
        let system = "SELECT system_identifier::text FROM pg_control_system()";
        let system = match client.query_typed_one(system, &[]).await {
            Ok(row) => row.get(0),
            Err(error) if error.code().is_some() => None,
            Err(error) => return Err(error.into()),
        };
        let database = "SELECT oid::bigint FROM pg_database WHERE datname = current_database()";
        let database = client.query_typed_one(database, &[]).await?.get(0);
        Ok(Self { system, database: Some(database) })
    }

    /// Whether both are known to be different places.
    pub(super) fn is_another_than(&self, other: &Self) -> bool {
        let differs =
            self.system.is_some() && other.system.is_some() && self.system != other.system;
        let is_elsewhere = self.database.is_some() && self.database != other.database;
        differs || is_elsewhere
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_makes_no_copy() {
        let home =
            |system: Option<&str>, database| Home { system: system.map(str::to_owned), database };
        let here = home(Some("1"), Some(5));
        for (known, is_copy) in [
            (here.clone(), false),
            (home(None, None), false),
            (home(None, Some(5)), false),
            (home(Some("2"), Some(5)), true),
            (home(Some("1"), Some(6)), true),
            (home(None, Some(6)), true),
        ] {
            assert_eq!(known.is_another_than(&here), is_copy, "{known:?}");
        }
        assert!(!here.is_another_than(&home(None, Some(5))), "the server does not tell any more");
    }
}
