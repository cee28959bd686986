//! Addresses of nodes, whom we trust to be one, and who we say we are.

use std::net::IpAddr;
use std::sync::Arc;

use lapin::uri::{AMQPScheme, AMQPUri};
use rustls::ClientConfig;
use rustls::crypto::ring;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::pem::{TlsFiles, Wrong};

/// The settings that name the files of a TLS connection.
pub(crate) const TLS_SETTINGS: [&str; 3] =
    ["AMQP_CA_FILE", "AMQP_CLIENT_CERT_FILE", "AMQP_CLIENT_KEY_FILE"];

/// What makes TLS of a connection; rustls speaks nothing below TLS 1.2.
pub(crate) fn connector(files: &TlsFiles) -> Result<TlsConnector, Wrong> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| files.wrong_ca(error.to_string()))?
        .with_root_certificates(files.roots()?);
    let config = match files.own()? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let built = builder.with_client_auth_cert(chain, key);
            built.map_err(|error| files.wrong_pair(error))?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What `AMQP_URL` says of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// `amqps`.
    pub(crate) is_tls: bool,
    /// It is on this machine, so that nobody can listen on the way.
    pub(crate) is_loopback: bool,
}

impl Address {
    /// Reads the address of a node.
    pub(crate) fn read(url: &str) -> Option<Self> {
        let uri = read(url)?;
        let host = &uri.authority.host;
        let is_loopback = host.eq_ignore_ascii_case("localhost")
            || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        Some(Self { is_tls: uri.scheme == AMQPScheme::AMQPS, is_loopback })
    }
}

/// Reads the address of a node. lapin's own reading takes an IPv6 address for this machine.
pub(super) fn read(url: &str) -> Option<AMQPUri> {
    let mut uri: AMQPUri = url.parse().ok()?;
    if let Some(Host::Ipv6(address)) = Url::parse(url).ok()?.host() {
        uri.authority.host = address.to_string();
    }
    Some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_other_hosts() {
        for (url, is_tls, is_loopback) in [
            ("amqp://guest:guest@127.0.0.1:5672/%2f", false, true),
            ("amqp://127.8.0.1", false, true),
            ("amqp://LocalHost/", false, true),
            ("amqp://[::1]:5672", false, true),
            ("amqp://[2001:db8::1]:5672", false, false),
            ("amqp://10.0.0.1", false, false),
            ("amqp://localhost.example.com", false, false),
            ("amqps://rabbit.example.com", true, false),
        ] {
            assert_eq!(Address::read(url), Some(Address { is_tls, is_loopback }), "{url}");
        }
        assert_eq!(Address::read("http://127.0.0.1"), None);
    }

    #[test]
    fn an_ipv6_host_is_kept() {
        assert_eq!(read("amqp://[2001:db8::1]").unwrap().authority.host, "2001:db8::1");
    }
}
