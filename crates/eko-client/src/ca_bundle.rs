//! Whom we trust to be Eko.

use std::path::Path;

use reqwest::Certificate;
use rustls::RootCertStore;

use eko_connect::pem;

/// `EKO_CA_FILE`: who signs the certificate of a private endpoint, in place of the system's.
#[derive(Clone, Debug)]
pub struct CaBundle(pub(super) Vec<Certificate>);

impl CaBundle {
    /// Reads a file in PEM format; what is wrong with it is told.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let read = pem::certificates(path)?;
        // The client takes what it cannot read in silence, and would trust nobody.
        let mut store = RootCertStore::empty();
        let mut certificates = Vec::with_capacity(read.len());
        for certificate in read {
            let unusable = || format!("{name} holds a certificate that cannot be used");
            certificates.push(Certificate::from_der(&certificate).map_err(|_| unusable())?);
            store.add(certificate).map_err(|_| unusable())?;
        }
        Ok(Self(certificates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<CaBundle, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        CaBundle::read(file.path())
    }

    #[test]
    fn a_file_of_certificates_is_read_whole_and_any_other_is_refused() {
        let key = rcgen::KeyPair::generate().unwrap();
        let one = rcgen::CertificateParams::new(["eko.example".to_owned()]).unwrap();
        let one = one.self_signed(&key).unwrap().pem();
        assert_eq!(written(&format!("{one}{one}")).unwrap().0.len(), 2);
        assert!(written("nothing").unwrap_err().contains("holds no certificate"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let told = written(&format!("{one}{broken}")).unwrap_err();
        assert!(told.contains("cannot be used"), "{told}");
    }
}
