//! A way to PostgreSQL on which the answer to one commit is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// What ends a transaction in the protocol, as the client asks for it and as the server tells it.
const COMMIT: &[u8] = b"COMMIT\0";

/// The way.
pub(crate) struct LossyWay {
    url: String,
    wanted: Arc<watch::Sender<Option<&'static str>>>,
    lost: Arc<AtomicUsize>,
}

impl LossyWay {
    /// A way to the server of a URL that loses nothing yet.
    pub(crate) async fn open_to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url = Url::parse(target).unwrap();
        let to = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let (wanted, lost) = (Arc::new(watch::Sender::new(None)), Arc::<AtomicUsize>::default());
        let shared = (Arc::clone(&wanted), Arc::clone(&lost));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (to, (wanted, lost)) = (to.clone(), shared.clone());
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(to).await else { return };
                    if carry(near, far, &wanted).await.is_none() {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        Self { url: url.to_string(), wanted, lost }
    }

    /// The server's URL by this way.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Loses the answer to the next commit of a transaction in which the client says this: the
    /// server commits, and then the connection is cut.
    pub(crate) fn lose_commit_of(&self, said: &'static str) {
        self.wanted.send_replace(Some(said));
    }

    /// How many answers were lost so far.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Carries bytes both ways until one side ends; `None` where an answer was lost.
async fn carry(
    near: TcpStream,
    far: TcpStream,
    wanted: &watch::Sender<Option<&'static str>>,
) -> Option<()> {
    let (mut near_in, mut near_out) = near.into_split();
    let (mut far_in, mut far_out) = far.into_split();
    let loses = watch::Sender::new(false);
    let up = async {
        let (mut chunk, mut transaction) = ([0; 65_536], Vec::new());
        while let Ok(count @ 1..) = near_in.read(&mut chunk).await {
            transaction.extend_from_slice(&chunk[..count]);
            if let Some(end) = position(&transaction, COMMIT) {
                let is_meant =
                    |said: &str| position(&transaction[..end], said.as_bytes()).is_some();
                let takes = |wanted: &mut Option<&'static str>| {
                    wanted.take_if(|said| is_meant(said)).is_some()
                };
                if wanted.send_if_modified(takes) {
                    loses.send_replace(true);
                }
                transaction.clear();
            }
            if far_out.write_all(&chunk[..count]).await.is_err() {
                break;
            }
        }
        Some(())
    };
    let down = async {
        let mut chunk = [0; 65_536];
        while let Ok(count @ 1..) = far_in.read(&mut chunk).await {
            if *loses.borrow() {
                if position(&chunk[..count], COMMIT).is_some() {
                    return None;
                }
            } else if near_out.write_all(&chunk[..count]).await.is_err() {
                break;
            }
        }
        Some(())
    };
    tokio::select! { ended = up => ended, ended = down => ended }
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
