//! The way to the ledger's server: every host and every address of its name is tried, until one can
//! be written.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, config};

use super::ConnectionError;
use super::address::{Address, Endpoint, SslMode};
use super::tls::connector;
use eko_connect::addresses::{Failed, first_that_answers};
use eko_connect::pem::TlsFiles;

/// Time for all addresses together: it leaves something of the time that a request has.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(3_500);

/// Time for the addresses of one name.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);

/// One of the places where a server may answer.
#[derive(Clone)]
enum Place {
    Tcp { name: String, address: SocketAddr },
    Unix(PathBuf),
}

/// Connects to the first server that answers and can be written.
pub(super) async fn connect(address: &Address, tls: &TlsFiles) -> Result<Client, ConnectionError> {
    let mut places = Vec::new();
    let mut unresolved = None;
    for server in address.servers() {
        match resolve(server).await {
            Ok(found) => places.extend(found),
            Err(error) => unresolved = Some(error),
        }
    }
    let connected = first_that_answers(places, CONNECT_TIMEOUT, |place| open(place, address, tls));
    connected.await.map_err(|failed| match (failed, unresolved) {
        (Failed::Said(error), _) | (Failed::None, Some(error)) => error,
        (Failed::Silent, _) => unreached("no answer from its address"),
        (Failed::None, None) => unreached("the host name has no address"),
    })
}

fn unreached(why: impl ToString) -> ConnectionError {
    ConnectionError::Unreached(why.to_string())
}

async fn resolve(server: Endpoint) -> Result<Vec<Place>, ConnectionError> {
    let Endpoint { name, host, port } = server;
    match host {
        Host::Tcp(host) => {
            let found = timeout(RESOLVE_TIMEOUT, lookup_host((host.as_str(), port))).await;
            let found = found.map_err(io::Error::from).and_then(|found| found);
            let found = found.map_err(|error| unreached(format!("{host}: {error}")))?;
            Ok(found.map(|address| Place::Tcp { name: name.clone(), address }).collect())
        }
        #[cfg(unix)]
        Host::Unix(path) => Ok(vec![Place::Unix(path.join(format!(".s.PGSQL.{port}")))]),
    }
}

async fn open(place: Place, address: &Address, tls: &TlsFiles) -> Result<Client, ConnectionError> {
    let mut config = address.config.clone();
    config.ssl_mode(match address.ssl_mode {
        SslMode::Disable => config::SslMode::Disable,
        SslMode::Prefer => config::SslMode::Prefer,
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => config::SslMode::Require,
    });
    let client = match place {
        Place::Tcp { name, address: socket } => {
            let failed = |error| unreached(format!("{socket}: {error}"));
            let stream = TcpStream::connect(socket).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            match address.ssl_mode {
                SslMode::Disable => start(&config, stream, NoTls).await?,
                mode => {
                    let wrong = |(setting, why)| unreached(format!("{setting}: {why}"));
                    let mut maker = connector(tls, mode).map_err(wrong)?;
                    let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut maker, &name);
                    start(&config, stream, tls.map_err(unreached)?).await?
                }
            }
        }
        Place::Unix(path) => {
            config.ssl_mode(config::SslMode::Disable);
            let failed = |error| unreached(format!("{}: {error}", path.display()));
            start(&config, UnixStream::connect(&path).await.map_err(failed)?, NoTls).await?
        }
    };
    if is_read_only(&client).await? {
        Err(unreached("the server does not allow writes"))
    } else {
        Ok(client)
    }
}

async fn start<S, T>(config: &Config, stream: S, tls: T) -> Result<Client, ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsConnect<S>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect_raw(stream, tls).await?;
    // It ends with the client, or whoever waits for an answer learns why it ended.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

/// Whether it is a standby.
async fn is_read_only(client: &Client) -> Result<bool, ConnectionError> {
    let answer = client.simple_query("SHOW transaction_read_only").await?;
    let is_on = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("on"),
        _ => false,
    };
    Ok(answer.iter().any(is_on))
}
