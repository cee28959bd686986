//! Whom we trust to be the ledger's server, as `sslmode` says it.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::SslMode;
use eko_connect::pem;

/// Files in PEM format. They are read for each connection, so that a renewed certificate needs no
/// restart.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// `LEDGER_CA_FILE`: who signs the server's certificate, in place of the system's.
    pub ca: Option<PathBuf>,
    /// `LEDGER_CLIENT_CERT_FILE` and `LEDGER_CLIENT_KEY_FILE`: our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// A setting that is wrong, and why.
type Wrong = (&'static str, String);

impl Tls {
    /// Reads the files.
    pub fn check(&self) -> Result<(), Wrong> {
        // Without a file the system's certificates are needed only by those who verify.
        self.connector(SslMode::Require).map(drop)
    }

    /// What makes TLS of a connection; rustls speaks nothing below TLS 1.2.
    pub(super) fn connector(&self, mode: SslMode) -> Result<MakeRustlsConnect, Wrong> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| ("LEDGER_CA_FILE", error.to_string()))?;
        let verifier = Verifier { chain: self.chain(mode, &provider)?, mode, provider };
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = pem::certificates(certificate)
                    .map_err(|why| ("LEDGER_CLIENT_CERT_FILE", why))?;
                let key = pem::key(key).map_err(|why| ("LEDGER_CLIENT_KEY_FILE", why))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    ("LEDGER_CLIENT_CERT_FILE", format!("does not go with its key: {error}"))
                })?
            }
        };
        Ok(MakeRustlsConnect::new(config))
    }

    /// Who verifies a certificate's signatures; nobody where it may be anybody's.
    fn chain(
        &self,
        mode: SslMode,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<WebPkiServerVerifier>>, Wrong> {
        let wrong = |why: String| ("LEDGER_CA_FILE", why);
        let roots = match (&self.ca, mode) {
            (Some(path), _) => {
                let mut roots = RootCertStore::empty();
                for certificate in pem::certificates(path).map_err(wrong)? {
                    roots.add(certificate).map_err(|error| {
                        wrong(format!("{} cannot be used: {error}", path.display()))
                    })?;
                }
                roots
            }
            (None, SslMode::VerifyCa | SslMode::VerifyFull) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                roots
            }
            (None, SslMode::Disable | SslMode::Prefer | SslMode::Require) => return Ok(None),
        };
        if roots.is_empty() {
            return Err(wrong("is needed, the system has no CA certificates".to_owned()));
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
            .build()
            .map(Some)
            .map_err(|error| wrong(error.to_string()))
    }
}

/// Verifies as much of a server's certificate as libpq does.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    mode: SslMode,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let verified =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // Only a chain that leads to a root comes as far as the name.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.mode != SslMode::VerifyFull => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
