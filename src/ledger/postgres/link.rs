//! One connection to PostgreSQL, made anew whenever it is lost.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, NoTls, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::rows::Statements;
use super::{PATIENCE, meta};
use crate::backoff::Backoff;
use crate::ledger::Error;

/// Between tries to reach the server.
const RECONNECT: Backoff =
    Backoff { initial: Duration::from_millis(50), max: Duration::from_secs(1) };

/// What each session sets. Timeouts: a worker that loses its network holds its locks no longer
/// than that. Plans: each statement here has an index, and a table that has grown since its
/// last ANALYZE must not be scanned. What that makes of the tables of one row costs so much by the
/// server's reckoning that it would compile each statement anew, for 30 ms. A commit that the server
/// may still lose is none.
const SESSION: &str = "SET statement_timeout = '5s';
    SET idle_in_transaction_session_timeout = '5s';
    SET enable_seqscan = off;
    SET jit = off;
    SET plan_cache_mode = force_generic_plan;
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') = 'off'";

/// What went wrong with one use of the connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The server, or the way to it.
    #[error(transparent)]
    Server(#[from] tokio_postgres::Error),
    /// What it keeps.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Trouble {
    /// Whether another connection may do better.
    fn is_passing(&self) -> bool {
        match self {
            Self::Server(error) => error.code().is_none_or(is_of_the_server),
            Self::Store(_) => false,
        }
    }

    /// Whether waiting may help a worker that starts: nobody answers, or not yet.
    fn is_away(&self) -> bool {
        let Self::Server(error) = self else { return false };
        let lost = std::error::Error::source(error).and_then(|why| why.downcast_ref());
        // A certificate that does not fit comes as invalid data.
        let is_lost = |why: &io::Error| why.kind() != io::ErrorKind::InvalidData;
        let is_gone = || error.is_closed() || lost.is_some_and(is_lost);
        error.code().map_or_else(is_gone, is_of_the_server)
    }

    /// Whether the URL is wrong: user, password or database.
    fn is_refusal(&self) -> bool {
        let Self::Server(error) = self else { return false };
        error.code().is_some_and(|code| {
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
    /// When it was noticed, by the server's clock in milliseconds, that a standby had taken over since
    /// the session before.
    pub(super) promoted: Option<i64>,
}

/// The way to the server.
pub(super) struct Link {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    session: Option<Arc<Session>>,
    /// Why the last try failed.
    problem: Option<String>,
    /// The server's timeline, and when a new one was last seen.
    timeline: Option<String>,
    promoted: Option<i64>,
}

impl Link {
    /// A way that nobody has gone yet. Only `sslmode=require` encrypts, and it verifies the
    /// server by the system's certificates.
    pub(super) fn new(mut config: Config) -> anyhow::Result<Self> {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        if config.get_application_name().is_none() {
            config.application_name("eko-worker");
        }
        let tls = if config.get_ssl_mode() == SslMode::Require {
            let (tls, _) = MakeRustlsConnect::with_native_certs()
                .map_err(|_| anyhow::anyhow!("the system has no certificates to verify with"))?;
            Some(tls)
        } else {
            None
        };
        Ok(Self { config, tls, session: None, problem: None, timeline: None, promoted: None })
    }

    /// Where it leads: hosts and database, and nothing else of the URL.
    pub(super) fn place(&self) -> String {
        let ports = self.config.get_ports();
        let port = |nth: usize| ports.get(nth).or_else(|| ports.first()).copied().unwrap_or(5432);
        let host = |(nth, host): (usize, &Host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port(nth)),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        let hosts: Vec<String> = self.config.get_hosts().iter().enumerate().map(host).collect();
        let database = self.config.get_dbname().unwrap_or_default();
        format!("PostgreSQL {}/{database}", hosts.join(","))
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Client, Trouble> {
        match &self.tls {
            Some(tls) => self.connect_by(tls.clone()).await,
            None => self.connect_by(NoTls).await,
        }
    }

    async fn connect_by<T>(&self, tls: T) -> Result<Client, Trouble>
    where
        T: MakeTlsConnect<Socket> + Send,
        T::Stream: Send + 'static,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        let (client, connection) = self.config.connect(tls).await?;
        // It ends with the client, or whoever waits for an answer learns why it ended.
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// The connection that is ready, or a new one.
    async fn session(&mut self) -> Result<Arc<Session>, Trouble> {
        if let Some(session) = self.session.as_ref().filter(|session| !session.client.is_closed()) {
            return Ok(Arc::clone(session));
        }
        let client = self.connect().await?;
        client.batch_execute(SESSION).await?;
        let statements = Statements::prepare(&client).await?;
        if self.problem.take().is_some() {
            tracing::info!("connected to the ledger's server again");
        }
        self.note_timeline(&client).await;
        let promoted = self.promoted;
        let session = Arc::new(Session { client, statements, promoted });
        self.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// A standby that took over may lack the last commits of any worker.
    async fn note_timeline(&mut self, client: &Client) {
        let Some((timeline, now)) = meta::timeline(client).await else { return };
        let before = self.timeline.replace(timeline.clone());
        if before.is_some_and(|before| before != timeline) {
            tracing::warn!(
                timeline,
                "another server took over as the ledger's: for a minute, refunds that it does not \
                 know are inquired first"
            );
            self.promoted = Some(now);
        }
    }

    /// Does what may be done twice, over as many connections as its time allows.
    pub(super) async fn retry<T, F>(&mut self, work: impl Fn(Arc<Session>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let tried = tokio::time::timeout(PATIENCE, async {
            let mut tries = 0;
            loop {
                let done = match self.session().await {
                    Ok(session) => work(session).await,
                    Err(trouble) => Err(trouble),
                };
                match done {
                    Ok(done) => return Ok(done),
                    Err(trouble) if trouble.is_passing() => self.wait(&trouble, &mut tries).await,
                    Err(trouble) => return Err(self.told(&trouble)),
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
        F: Future<Output = Result<T, Trouble>>,
    {
        let Some(session) = self.session.clone() else {
            return Err(self.late());
        };
        let result = match tokio::time::timeout(PATIENCE, work(session)).await {
            Ok(done) => done.map_err(|trouble| self.told(&trouble)),
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

    async fn wait(&mut self, trouble: &Trouble, tries: &mut u32) {
        self.session = None;
        let problem = match self.told(trouble) {
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
        let silence = || format!("no answer from the server within {} s", PATIENCE.as_secs());
        Error::Away(self.problem.clone().unwrap_or_else(silence))
    }

    /// What went wrong, without anything of the URL's password, nor of a row's values that the
    /// server's details would repeat.
    pub(super) fn told(&self, trouble: &Trouble) -> Error {
        let text = match trouble {
            Trouble::Store(error) => return error.clone(),
            Trouble::Server(error) => match error.as_db_error() {
                Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
                None => chain(error),
            },
        };
        let password = self.config.get_password().unwrap_or_default();
        let password = String::from_utf8_lossy(password);
        let text = if password.is_empty() { text } else { text.replace(&*password, "…") };
        match trouble {
            trouble if trouble.is_refusal() => Error::Refused(text),
            trouble if trouble.is_away() => Error::Away(text),
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
