//! Asks a running simulator whether it answers: what an image's health check runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A simulator that takes longer does not answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Any answer in HTTP will do.
pub(crate) async fn healthcheck(mut listen: SocketAddr) -> Result<()> {
    if listen.ip().is_unspecified() {
        let is_v4 = listen.is_ipv4();
        let loopback =
            if is_v4 { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
        listen.set_ip(loopback);
    }
    let asked = tokio::time::timeout(TIMEOUT, ask(listen)).await;
    let answer = asked.ok().and_then(Result::ok);
    let answer = answer.with_context(|| format!("no answer from {listen}"))?;
    ensure!(answer.starts_with("HTTP/1.1 "), "no HTTP from {listen}");
    Ok(())
}

async fn ask(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = "GET /state/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
