//! An Eko behind a certificate that no public CA signs, and one that cannot be reached.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::rig::command::refund;
use crate::rig::script::refunded;
use crate::rig::stub::BASE;
use crate::rig::{Rig, eventually};

/// A CA, and a key with a certificate of it for `localhost`.
struct Authority {
    pem: String,
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(params, ca_key);
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = names.signed_by(&key, &issuer).unwrap().der().clone();
        Self { pem, certificate, key }
    }

    fn server(&self, version: &'static SupportedProtocolVersion) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Ends TLS in front of the stub; gives the base URL, and ends with what it returns.
async fn behind_tls(rig: &Rig, acceptor: TlsAcceptor) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = rig.stub().url().strip_prefix("http://").unwrap().to_owned();
    let mut way = JoinSet::new();
    way.spawn(async move {
        let mut pipes = JoinSet::new();
        while let Ok((near, _)) = listener.accept().await {
            let (to, acceptor) = (to.clone(), acceptor.clone());
            pipes.spawn(async move {
                // Whoever does not trust us ends the handshake.
                let Ok(mut near) = acceptor.accept(near).await else { return };
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
            });
        }
    });
    (format!("https://localhost:{port}{BASE}"), way)
}

fn trust(rig: &mut Rig, authority: &Authority) {
    let path = rig.path("ca.pem");
    std::fs::write(&path, &authority.pem).unwrap();
    rig.settings.insert("EKO_CA_FILE".to_owned(), path.display().to_string());
}

/// Waits until a refund was tried in vain, and known not to have left.
async fn until_not_sent(rig: &mut Rig, why: &str) {
    rig.until_metrics("it is tried again", |metrics| {
        metrics.value("retries_total", &[("kind", "refund"), ("reason", "network")]) >= 2.0
    })
    .await;
    let metrics = rig.worker().metrics().await;
    let unclear = [("endpoint", "refund"), ("verdict", "unclear")];
    assert_eq!(metrics.value("eko_requests_total", &unclear), 0.0);
    let log = rig.worker().log();
    let line =
        log.lines().find(|line| line.contains("no connection to Eko was made: nothing was sent"));
    let line = line.unwrap_or_else(|| panic!("it does not say so:\n{log}"));
    assert!(line.contains(why), "{line}");
    assert_eq!(rig.stub().all_requests().len(), 0, "no call leaves");
}

#[tokio::test]
async fn eko_behind_a_private_ca_is_called_by_tls_1_2_and_1_3() {
    for (tid, version) in [("701", &version::TLS12), ("702", &version::TLS13)] {
        let mut rig = Rig::builder().stub().start_without_worker().await;
        let authority = Authority::new();
        let (url, _way) = behind_tls(&rig, authority.server(version)).await;
        trust(&mut rig, &authority);
        rig.settings.insert("EKO_BASE_URL".to_owned(), url);
        rig.stub().on_refund(tid, [refunded(tid)]);
        rig.start_worker().await;
        assert_eq!(rig.outcome_of(&refund("private", tid)).await.told(), "succeeded response");
        rig.finish().await;
    }
}

#[tokio::test]
async fn whoever_another_ca_vouches_for_gets_no_call() {
    let mut rig = Rig::builder().stub().start_without_worker().await;
    let (authority, other) = (Authority::new(), Authority::new());
    let (url, _way) = behind_tls(&rig, authority.server(&version::TLS13)).await;
    trust(&mut rig, &other);
    rig.settings.insert("EKO_BASE_URL".to_owned(), url);
    rig.stub().on_refund("711", [refunded("711")]);
    rig.start_worker().await;
    rig.publish(&refund("waits", "711")).await;
    until_not_sent(&mut rig, "certificate").await;
    rig.stop_worker().await;
    trust(&mut rig, &authority);
    rig.start_worker().await;
    // Nothing was unclear, so nothing is inquired.
    assert_eq!(rig.next_event().await.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_safe_retry() {
    // Beyond loopback nothing shorter is taken.
    let rig = Rig::builder().stub().set("SETTLE_QUIET", "15s").set("EKO_STAMP_TOLERANCE", "60s");
    let mut rig = rig.start_without_worker().await;
    let url = rig.settings["EKO_BASE_URL"].clone();
    rig.settings.insert("EKO_BASE_URL".to_owned(), format!("https://eko.invalid{BASE}"));
    rig.stub().on_refund("721", [refunded("721")]);
    rig.start_worker().await;
    rig.publish(&refund("nameless", "721")).await;
    until_not_sent(&mut rig, "dns error").await;
    rig.stop_worker().await;
    rig.settings.insert("EKO_BASE_URL".to_owned(), url);
    rig.start_worker().await;
    assert_eq!(rig.next_event().await.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn an_answer_that_drips_in_is_given_up_after_the_timeout() {
    let mut rig = Rig::builder().impatient().start().await;
    rig.simulator().fault("731", "refund", "slow", 1).await;
    let begin = std::time::Instant::now();
    rig.publish(&refund("drips", "731")).await;
    let unclear = [("endpoint", "refund"), ("verdict", "unclear")];
    rig.until_metrics("the call ends", |metrics| {
        metrics.value("eko_requests_total", &unclear) == 1.0
    })
    .await;
    let took = begin.elapsed().as_secs_f64();
    assert!(took < 4.0, "EKO_TIMEOUT is 1 s: {took}");
    let event = rig.next_event().await;
    assert_eq!(event.outcome(), "succeeded");
    let seen = async || (rig.simulator().executions("731").await == 1).then_some(());
    eventually("it is refunded once", seen).await;
    rig.finish().await;
}
