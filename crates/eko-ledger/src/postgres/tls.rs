//! Whom we trust to be the ledger's server, as `sslmode` says it.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::SslMode;
use eko_connect::pem::{TlsFiles, Wrong};

/// The settings that name the files of a TLS connection.
pub const TLS_SETTINGS: [&str; 3] =
    ["LEDGER_CA_FILE", "LEDGER_CLIENT_CERT_FILE", "LEDGER_CLIENT_KEY_FILE"];

/// Reads the files. Without one the system's certificates are needed only by those who verify.
pub fn check_tls(files: &TlsFiles) -> Result<(), Wrong> {
    connector(files, SslMode::Require).map(drop)
}

/// What makes TLS of a connection; rustls speaks nothing below TLS 1.2.
pub(super) fn connector(files: &TlsFiles, mode: SslMode) -> Result<MakeRustlsConnect, Wrong> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| files.wrong_ca(error.to_string()))?;
    let verifier = Verifier { chain: chain(files, mode, &provider)?, mode, provider };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let config = match files.own()? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let built = builder.with_client_auth_cert(chain, key);
            built.map_err(|error| files.wrong_pair(error))?
        }
    };
    Ok(MakeRustlsConnect::new(config))
}

/// Who verifies a certificate's signatures; nobody where it may be anybody's.
fn chain(
    files: &TlsFiles,
    mode: SslMode,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<WebPkiServerVerifier>>, Wrong> {
    let is_verified = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull);
    if files.ca.is_none() && !is_verified {
        return Ok(None);
    }
    let roots = files.roots()?;
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map(Some)
        .map_err(|error| files.wrong_ca(error.to_string()))
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
