//! A way to the broker that can be missing, opened and cut.

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

use super::broker::Broker;

/// A port on the way to the broker.
pub(crate) struct Proxy {
    address: String,
    connections: Option<tokio::task::JoinHandle<()>>,
}

impl Proxy {
    /// Chooses a port on which nobody listens yet.
    pub(crate) async fn closed() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { address: listener.local_addr().unwrap().to_string(), connections: None }
    }

    /// The broker's URL through this port.
    pub(crate) fn amqp_url(&self) -> String {
        let mut url = Url::parse(&Broker::url()).unwrap();
        let (host, port) = self.address.split_once(':').unwrap();
        url.set_host(Some(host)).unwrap();
        url.set_port(port.parse().ok()).unwrap();
        url.to_string()
    }

    /// Lets connections through from now on.
    pub(crate) async fn open(&mut self) {
        let listener = TcpListener::bind(&self.address).await.unwrap();
        let broker = Url::parse(&Broker::url()).unwrap();
        let to = format!("{}:{}", broker.host_str().unwrap(), broker.port().unwrap_or(5672));
        self.connections = Some(tokio::spawn(async move {
            // Dropped with this task, so that an abort cuts every connection.
            let mut pipes = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let to = to.clone();
                pipes.spawn(async move {
                    let mut far = TcpStream::connect(to).await.unwrap();
                    tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
                });
            }
        }));
    }

    /// Cuts all connections and refuses new ones.
    pub(crate) async fn close(&mut self) {
        let connections = self.connections.take().unwrap();
        connections.abort();
        connections.await.ok();
    }
}
