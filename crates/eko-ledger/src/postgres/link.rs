//! One connection to PostgreSQL, made anew whenever it is lost.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::address::Address;
use super::connect::connect;
use super::home::Home;
use super::pooled::is_direct;
use super::statements::Statements;
use super::{ANSWER_TIMEOUT, meta, schema};
use crate::{Error, Server};
use eko_core::backoff::Backoff;

/// Between tries to reach the server.
const RECONNECT: Backoff =
    Backoff { initial: Duration::from_millis(50), max: Duration::from_secs(1) };

/// What a connection is set to. Timeouts: a worker that loses its network holds its locks no longer
/// than that. Plans: each statement here has an index, and a table that has grown since its last
/// ANALYZE must not be scanned; what that forbids is compiled as if it were dear, each time.
const SETTINGS: [(&str, &str); 5] = [
    ("statement_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "5s"),
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
];

/// What begins a transaction. A commit that the server may still lose is none; that can be set anew at
/// the server while a connection lives.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
    SELECT set_config('synchronous_commit',
        replace(current_setting('synchronous_commit'), 'off', 'on'), true)";

/// What went wrong with one use of the connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    /// The server, or the way to it.
    #[error(transparent)]
    Server(#[from] tokio_postgres::Error),
    /// What it keeps.
    #[error(transparent)]
    Store(#[from] Error),
    /// No server was reached that can be written.
    #[error("{0}")]
    Unreached(String),
    /// Another server answers than the one before.
    #[error("another server answers")]
    Moved,
}

impl ConnectionError {
    /// Whether another connection may do better.
    fn is_passing(&self) -> bool {
        match self {
            Self::Server(error) => error.code().is_none_or(is_of_the_server),
            Self::Store(_) => false,
            Self::Unreached(_) | Self::Moved => true,
        }
    }

    /// Whether waiting may help a worker that starts: nobody answers, or not yet.
    fn is_away(&self) -> bool {
        let error = match self {
            Self::Server(error) => error,
            Self::Store(_) => return false,
            Self::Unreached(_) | Self::Moved => return true,
        };
        let lost = std::error::Error::source(error).and_then(|why| why.downcast_ref());
        // A certificate that does not fit comes as invalid data.
        let is_lost = |why: &io::Error| why.kind() != io::ErrorKind::InvalidData;
        let is_gone = || error.is_closed() || lost.is_some_and(is_lost);
        error.code().map_or_else(is_gone, is_of_the_server)
    }

    /// Whether the URL is wrong: user, password, database or TLS.
    fn is_refusal(&self) -> bool {
        let Self::Server(error) = self else { return false };
        let is_of_tls = || !self.is_away() && error.to_string().contains("TLS");
        error.code().map_or_else(is_of_tls, |code| {
            code.code().starts_with("28") || *code == SqlState::UNDEFINED_DATABASE
        })
    }
}

/// Codes that tell of the server and the way to it, not of what it was asked for.
fn is_of_the_server(code: &SqlState) -> bool {
    code.code().starts_with("08")
        || code.code().starts_with("57P")
        || *code == SqlState::TOO_MANY_CONNECTIONS
}

/// A connection that is ready for batches.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) statements: Statements,
    /// What begins each transaction.
    begin: Cow<'static, str>,
    /// The ledger's id, by which each batch knows that it has the right one.
    pub(super) id: String,
    /// The server's timeline, where it tells.
    pub(super) timeline: Option<String>,
    /// When it was noticed, by the server's clock in milliseconds, that a standby had taken over since
    /// the session before.
    pub(super) promoted: Option<i64>,
}

impl Session {
    /// Begins a transaction.
    pub(super) async fn begin(&self) -> Result<(), ConnectionError> {
        // A snapshot of the whole transaction would be older than its locks.
        Ok(self.client.batch_execute(&self.begin).await?)
    }

    /// Does something in a transaction of its own. Where it fails the connection is given up.
    pub(super) async fn transaction<T>(
        &self,
        work: impl Future<Output = Result<T, ConnectionError>>,
    ) -> Result<T, ConnectionError> {
        self.begin().await?;
        let done = work.await?;
        self.client.batch_execute("COMMIT").await?;
        Ok(done)
    }
}

/// What begins a transaction on the tables of a schema, and sets all for it alone: a pool such as
/// `PgBouncer` gives the connection to others.
pub(super) fn begin(schema: &str) -> String {
    format!("{BEGIN}, {}", settings(schema, "true"))
}

/// Sets all, for as long as the transaction or the connection lasts. The schema is that of the tables.
fn settings(schema: &str, is_local: &str) -> String {
    let path = schema::quoted(schema).replace('\'', "''");
    let all = SETTINGS.into_iter().chain([("search_path", path.as_str())]);
    let set = all.map(|(name, value)| format!("set_config('{name}', '{value}', {is_local})"));
    set.collect::<Vec<_>>().join(", ")
}

/// The way to the server.
pub(super) struct Link {
    server: Server,
    /// What `server` was when it was last connected to.
    address: Address,
    session: Option<Arc<Session>>,
    /// Why the last try failed.
    problem: Option<String>,
    /// The ledger's id, once it is known.
    id: Option<String>,
    /// The server's timeline, and when a new one was last seen.
    timeline: Option<String>,
    promoted: Option<i64>,
}

impl Link {
    /// A way that nobody has gone yet.
    pub(super) fn new(server: Server) -> Self {
        let address = server.url.value();
        Self {
            server,
            address,
            session: None,
            problem: None,
            id: None,
            timeline: None,
            promoted: None,
        }
    }

    /// Where it leads.
    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// A new connection. The password may be another one by now.
    pub(super) async fn connect(&mut self) -> Result<Client, ConnectionError> {
        self.address = self.server.url.renewed();
        connect(&self.address, &self.server.tls).await
    }

    /// The connection that is ready, or a new one.
    async fn session(&mut self) -> Result<Arc<Session>, ConnectionError> {
        if let Some(session) = self.session.as_ref().filter(|session| !session.client.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let client = self.connect().await?;
        self.note_timeline(&client).await;
        let id = self.known_id(&client).await?;
        if self.problem.take().is_some() {
            tracing::info!("the connection to the ledger's server was restored");
        }
        let timeline = self.timeline.clone();
        let mut session = Session {
            statements: Statements::new(timeline.as_deref()),
            begin: begin(&self.address.schema).into(),
            client,
            id,
            timeline,
            promoted: self.promoted,
        };
        if is_direct(&session.client).await? {
            let settings = format!("SELECT {}", settings(&self.address.schema, "false"));
            session.client.batch_execute(&settings).await?;
            session.begin = BEGIN.into();
            session.begin().await?;
            session.statements.prepare(&session.client).await?;
            session.client.batch_execute("COMMIT").await?;
        }
        let session = Arc::new(session);
        self.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// The ledger's id, which is the same for as long as the process lives.
    async fn known_id(&mut self, client: &Client) -> Result<String, ConnectionError> {
        let found = meta::id(client, &self.address.schema).await?;
        let here = Home::of(client).await?;
        let known = self.id.get_or_insert_with(|| found.id.clone());
        if *known == found.id && !found.home.is_another_than(&here) {
            return Ok(found.id);
        }
        let why = format!(
            "the database has changed since this worker started, or is a copy: it has the ledger \
             {}, but this worker began with {known}; if that is intended, restart the worker",
            found.id
        );
        Err(Error::Unfit(why).into())
    }

    /// A standby that took over may lack the last commits of any worker.
    async fn note_timeline(&mut self, client: &Client) {
        let Some((timeline, now)) = meta::timeline(client).await else { return };
        let before = self.timeline.replace(timeline.clone());
        if before.is_some_and(|before| before != timeline) {
            tracing::warn!(
                timeline,
                "another PostgreSQL server has taken over the ledger: refunds that it does not \
                 know are inquired first for one minute"
            );
            self.promoted = Some(now);
        }
    }

    /// Does what may be done twice, over as many connections as its time allows.
    pub(super) async fn retry<T, F>(&mut self, work: impl Fn(Arc<Session>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ConnectionError>>,
    {
        let tried = tokio::time::timeout(ANSWER_TIMEOUT, async {
            let mut tries = 0;
            loop {
                let done = match self.session().await {
                    Ok(session) => work(session).await,
                    Err(error) => Err(error),
                };
                match done {
                    Ok(done) => return Ok(done),
                    Err(error) if error.is_passing() => self.wait(&error, &mut tries).await,
                    Err(error) => return Err(self.told(&error)),
                }
            }
        });
        let result = tried.await.unwrap_or_else(|_| Err(self.late()));
        self.keep_if(result)
    }

    /// Does what must not be done twice, on the connection where it was prepared.
    pub(super) async fn once<T, F>(
        &mut self,
        work: impl FnOnce(Arc<Session>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ConnectionError>>,
    {
        let Some(session) = self.session.clone() else {
            return Err(self.late());
        };
        let result = match tokio::time::timeout(ANSWER_TIMEOUT, work(session)).await {
            Ok(done) => done.map_err(|error| self.told(&error)),
            Err(_) => Err(self.late()),
        };
        self.keep_if(result)
    }

    /// After a failure nobody knows what the connection is in the middle of: the next batch
    /// begins with a new one.
    fn keep_if<T>(&mut self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.session = None;
        }
        result
    }

    async fn wait(&mut self, error: &ConnectionError, tries: &mut u32) {
        self.session = None;
        let problem = match self.told(error) {
            Error::Away(why) => why,
            other => other.to_string(),
        };
        if self.problem.is_none() {
            tracing::warn!(problem, "waiting for the ledger's server");
        }
        self.problem = Some(problem);
        *tries = tries.saturating_add(1);
        tokio::time::sleep(RECONNECT.delay(*tries, fastrand::f32().into())).await;
    }

    /// The error of a batch whose time is over.
    pub(super) fn late(&self) -> Error {
        let silence = || format!("no answer from the server within {} s", ANSWER_TIMEOUT.as_secs());
        Error::Away(self.problem.clone().unwrap_or_else(silence))
    }

    /// What went wrong, without anything of the URL's password, nor of a row's values that the
    /// server's details would repeat.
    pub(super) fn told(&self, error: &ConnectionError) -> Error {
        let text = match error {
            ConnectionError::Store(error) => return error.clone(),
            ConnectionError::Unreached(_) | ConnectionError::Moved => error.to_string(),
            ConnectionError::Server(error) => match error.as_db_error() {
                Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
                None => chain(error),
            },
        };
        let text = self.address.without_password(text);
        match error {
            _ if error.is_refusal() => Error::Refused(text),
            _ if error.is_away() => Error::Away(text),
            _ => Error::Store(text),
        }
    }
}

fn chain(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
