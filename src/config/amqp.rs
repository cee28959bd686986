//! The broker's settings.

use secrecy::{ExposeSecret as _, SecretString};

use super::args::Args;
use super::parts::AmqpArgs;
use super::read::Reader;
use super::tls::TlsPaths;
use crate::broker;
use crate::pem::TlsFiles;

/// The broker's settings for a worker that makes so many calls at a time.
pub(super) fn worker_settings(
    args: &Args,
    concurrency: Option<u16>,
    reader: &mut Reader,
) -> Option<broker::Settings> {
    // Who begins and who ends waits for ledger and broker meanwhile, not for Eko.
    let prefetch = concurrency.map(|most| most.saturating_mul(2));
    let buffer = reader.bytes("WORKER_BUFFER", &args.worker_buffer);
    let broker = settings(&args.amqp, prefetch, reader);
    let (broker, buffer) = (broker?, buffer?);
    Some(broker::Settings { buffer, ..broker })
}

/// The broker's settings for a program that has so many deliveries in its hands.
pub(super) fn settings(
    args: &AmqpArgs,
    prefetch: Option<u16>,
    reader: &mut Reader,
) -> Option<broker::Settings> {
    let allow_plain =
        reader.truth("AMQP_ALLOW_PLAINTEXT", &args.amqp_allow_plaintext).unwrap_or_default();
    let file = args.amqp_url_file.as_deref();
    let urls = reader.amqp_urls(&args.amqp_url, file, allow_plain);
    let tls = urls.as_ref().and_then(|urls| tls(args, reader, &urls.value()));
    let prefix = reader.prefix("AMQP_PREFIX", &args.amqp_prefix);
    let (urls, tls, prefix, prefetch) = (urls?, tls?, prefix?, prefetch?);
    Some(broker::Settings { urls, tls, prefix, prefetch, buffer: u64::MAX })
}

/// The certificates, which are nothing without a node that is reached by TLS.
fn tls(args: &AmqpArgs, reader: &mut Reader, urls: &[SecretString]) -> Option<TlsFiles> {
    let files = TlsPaths {
        settings: broker::TLS_SETTINGS,
        paths: [&args.amqp_ca_file, &args.amqp_client_cert_file, &args.amqp_client_key_file],
    };
    let is_tls = |url: &SecretString| {
        broker::Address::read(url.expose_secret()).is_some_and(|address| address.is_tls)
    };
    if !urls.iter().any(is_tls) {
        files.refuse(
            reader,
            "is only used with amqps, but AMQP_URL has no amqps address: remove it, or use amqps",
        );
        return Some(TlsFiles::none(broker::TLS_SETTINGS));
    }
    let tls = files.read(reader)?;
    match broker::tls_connector(&tls) {
        Ok(_) => Some(tls),
        Err((name, why)) => {
            reader.wrong(name, &why);
            None
        }
    }
}
