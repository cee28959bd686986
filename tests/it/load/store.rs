//! Where the workers of a soak keep their ledger.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use url::Url;

/// One ledger.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// A file of one worker.
    Sqlite,
    /// A schema of its own in the tests' PostgreSQL, for several workers.
    Postgres { server: String, schema: String },
}

impl Store {
    /// A new schema; `None` where there is no server to test with.
    pub(crate) async fn postgres() -> Option<Self> {
        let Ok(server) = std::env::var("EKO_TEST_POSTGRES_URL") else {
            eprintln!("SKIPPED on PostgreSQL, EKO_TEST_POSTGRES_URL is not set");
            return None;
        };
        Some(Self::postgres_at(&server).await)
    }

    /// A new schema in this server.
    pub(crate) async fn postgres_at(server: &str) -> Self {
        let schema = format!("load_{:016x}", fastrand::u64(..));
        execute(server, &format!("CREATE SCHEMA {schema}")).await;
        Self::Postgres { server: server.to_owned(), schema }
    }

    /// The `LEDGER_URL`.
    pub(crate) fn url(&self, dir: &Path) -> String {
        match self {
            Self::Sqlite => format!("sqlite://{}", dir.join("ledger.db").display()),
            Self::Postgres { server, schema } => {
                let mark = if server.contains('?') { '&' } else { '?' };
                format!("{server}{mark}options=-csearch_path%3D{schema}")
            }
        }
    }

    /// `SETTLE_GIVE_UP`: where a dead worker's claims count until their time is over, nobody
    /// can look before that.
    pub(crate) fn settle_give_up(&self) -> &'static str {
        match self {
            Self::Sqlite => "25s",
            Self::Postgres { .. } => "45s",
        }
    }

    /// Everything that it holds, as far as it is no file.
    pub(crate) async fn dump(&self) -> Vec<u8> {
        let Self::Postgres { server, schema } = self else {
            return Vec::new();
        };
        let (client, connection) = connect(server).await;
        let connection = tokio::spawn(connection);
        let rows = client.query(&format!("SELECT c::text FROM {schema}.commands c"), &[]).await;
        let rows: Vec<String> = rows.unwrap().iter().map(|row| row.get(0)).collect();
        drop(client);
        connection.await.unwrap().unwrap();
        rows.join("\n").into_bytes()
    }

    /// Takes it away.
    pub(crate) async fn remove(&self) {
        if let Self::Postgres { server, schema } = self {
            execute(server, &format!("DROP SCHEMA {schema} CASCADE")).await;
        }
    }
}

type Connected = (
    tokio_postgres::Client,
    tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>,
);

async fn connect(server: &str) -> Connected {
    tokio_postgres::connect(server, tokio_postgres::NoTls)
        .await
        .unwrap_or_else(|error| panic!("no PostgreSQL at EKO_TEST_POSTGRES_URL: {error}"))
}

/// Has a server do something.
pub(crate) async fn execute(server: &str, sql: &str) {
    let (client, connection) = connect(server).await;
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

/// What a server answers to a question for one text.
pub(crate) async fn ask(server: &str, sql: &str) -> String {
    let (client, connection) = connect(server).await;
    let connection = tokio::spawn(connection);
    let row = client.query_typed_one(sql, &[]).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    row.get(0)
}

/// A database of a test's own in the tests' PostgreSQL.
pub(crate) struct Database {
    server: String,
    name: String,
    /// Where it is.
    pub(crate) url: String,
}

impl Database {
    /// Makes one as `CREATE DATABASE` is told to; `None` where there is no server to test with.
    pub(crate) async fn new(how: &str) -> Option<Self> {
        let Ok(server) = std::env::var("EKO_TEST_POSTGRES_URL") else {
            eprintln!("SKIPPED on PostgreSQL, EKO_TEST_POSTGRES_URL is not set");
            return None;
        };
        let name = format!("it_{:016x}", fastrand::u64(..));
        execute(&server, &format!("CREATE DATABASE {name} {how}")).await;
        let mut url = Url::parse(&server).unwrap();
        url.set_path(&name);
        Some(Self { server, name, url: url.to_string() })
    }

    /// A copy of it, made while nobody is connected to it.
    pub(crate) async fn copy(&self) -> Self {
        Self::new(&format!("TEMPLATE {}", self.name)).await.unwrap()
    }

    /// Takes it away, whoever uses it.
    pub(crate) async fn remove(self) {
        execute(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

/// A `PgBouncer` in transaction mode before the tests' PostgreSQL.
pub(crate) struct Pool {
    dir: TempDir,
    port: u16,
}

impl Pool {
    /// Starts one; `None` where it or the server is not there.
    pub(crate) fn start() -> Option<Self> {
        let server = Url::parse(&std::env::var("EKO_TEST_POSTGRES_URL").ok()?).unwrap();
        let places = ["/usr/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer"];
        if !places.iter().any(|place| Path::new(place).exists()) {
            eprintln!("SKIPPED, PgBouncer is not installed: scripts/private-pgbouncer install");
            return None;
        }
        let mut pool = Self { dir: TempDir::new().unwrap(), port: 0 };
        let (host, port) = (server.host_str().unwrap(), server.port().unwrap_or(5432));
        let said = pool.run("start", &[host, &port.to_string()]);
        pool.port = Url::parse(&url_in(&said)).unwrap().port().unwrap();
        Some(pool)
    }

    /// The same URL by way of the pool.
    pub(crate) fn before(&self, url: &str) -> String {
        let mut url = Url::parse(url).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(self.port)).unwrap();
        url.to_string()
    }

    fn run(&self, what: &str, arguments: &[&str]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-pgbouncer");
        let mut command = Command::new(script);
        command.arg(what).arg(self.dir.path().join("pool")).args(arguments).stdin(Stdio::null());
        let output = command.stderr(Stdio::inherit()).output().unwrap();
        assert!(output.status.success(), "scripts/private-pgbouncer {what} failed");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.run("wipe", &[]);
    }
}

/// A PostgreSQL server of a test alone, so that it can go down.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) url: String,
    dir: PathBuf,
}

impl Server {
    /// Starts one in a directory.
    pub(crate) fn start(dir: PathBuf) -> Self {
        let mut server = Self { url: String::new(), dir };
        server.url = server.start_again();
        server
    }

    /// Starts it once more; where it listens.
    pub(crate) fn start_again(&self) -> String {
        url_in(&self.run("start"))
    }

    /// Starts a standby of it in a directory: asynchronous, as by PostgreSQL's defaults.
    pub(crate) fn standby(&self, dir: PathBuf) -> Self {
        let mut standby = Self { url: String::new(), dir };
        standby.url = url_in(&standby.run_with("standby", &[&self.dir]));
        standby
    }

    /// Cuts a standby off: what this primary commits from now on never reaches it.
    pub(crate) fn lag(&self, primary: &Self) {
        self.run_with("lag", &[&primary.dir]);
    }

    /// Lets in by a line of `pg_hba.conf`, before all others.
    pub(crate) fn hba(&self, line: &str) {
        self.run_with("hba", &[Path::new(line)]);
    }

    /// Speaks TLS with a certificate: files of it, of its key, and of who signs clients'.
    pub(crate) fn speak_tls(&self, files: [&str; 3]) {
        self.run_with("tls", &files.map(Path::new));
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        self.run("promote");
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill9(&self) {
        self.run("kill9");
    }

    /// Ends it as a crash would.
    pub(crate) fn stop(&self) {
        self.run("stop");
    }

    fn run(&self, what: &str) -> String {
        self.run_with(what, &[])
    }

    fn run_with(&self, what: &str, others: &[&Path]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/private-postgres");
        let output = Command::new(script)
            .arg(what)
            .arg(&self.dir)
            .args(others)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "scripts/private-postgres {what} failed");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn url_in(said: &str) -> String {
    let url = said.lines().find_map(|line| line.strip_prefix("POSTGRES_URL="));
    url.unwrap_or_else(|| panic!("no URL of the server: {said}")).to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run("wipe");
    }
}

/// A primary and its asynchronous standby, and the URL of whichever takes writes.
pub(crate) struct Pair {
    primary: Server,
    standby: Server,
    _home: TempDir,
}

impl Pair {
    /// Starts both.
    pub(crate) fn start() -> Self {
        let home = TempDir::new().unwrap();
        let primary = Server::start(home.path().join("primary"));
        let standby = primary.standby(home.path().join("standby"));
        Self { primary, standby, _home: home }
    }

    /// The URL of both, for whoever wants to write.
    pub(crate) fn url(&self) -> String {
        let port = |server: &Server| Url::parse(&server.url).unwrap().port().unwrap();
        let (primary, standby) = (port(&self.primary), port(&self.standby));
        let hosts = format!("127.0.0.1:{primary},127.0.0.1:{standby}");
        format!("postgres://eko@{hosts}/postgres?target_session_attrs=read-write")
    }

    /// The standby gets nothing any more.
    pub(crate) fn cut_standby_off(&self) {
        self.standby.lag(&self.primary);
    }

    /// The primary dies, and the standby takes its place.
    pub(crate) fn fail_over(&self) {
        self.primary.kill9();
        self.standby.promote();
    }

    /// The standby becomes a primary though the primary lives on; where the new one is.
    pub(crate) fn split(&self) -> &str {
        self.standby.promote();
        &self.standby.url
    }

    /// The primary is stopped.
    pub(crate) fn fence(&self) {
        self.primary.stop();
    }
}
