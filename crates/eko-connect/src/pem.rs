//! Certificates and keys in files of the PEM format.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A setting that is wrong, and why.
pub type Wrong = (&'static str, String);

/// What TLS needs, in files. They are read for each connection, so that a renewed certificate needs no
/// restart.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The settings that name them: the CA's, the certificate's, the key's.
    pub settings: [&'static str; 3],
    /// Who signs the server's certificate, in place of the system's.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// None.
    pub const fn none(settings: [&'static str; 3]) -> Self {
        Self { settings, ca: None, client: None }
    }

    /// Who is trusted to sign a server's certificate: those of the file, else those of the system.
    ///
    /// # Errors
    /// The file cannot be read, or there is nobody.
    pub fn roots(&self) -> Result<RootCertStore, Wrong> {
        let mut roots = RootCertStore::empty();
        let (found, lacks) = match self.ca.as_deref() {
            Some(path) => {
                let found = certificates(path).map_err(|why| self.wrong_ca(why))?;
                (found, format!("{} holds no certificate that can be used", path.display()))
            }
            None => {
                let lacks = "is needed, since the system has no CA certificates".to_owned();
                (rustls_native_certs::load_native_certs().certs, lacks)
            }
        };
        roots.add_parsable_certificates(found);
        if roots.is_empty() { Err(self.wrong_ca(lacks)) } else { Ok(roots) }
    }

    /// Our certificate and its key, where files hold them.
    pub fn own(&self) -> Result<Option<Own>, Wrong> {
        let Some((certificate, key)) = &self.client else { return Ok(None) };
        let [_, its_setting, keys_setting] = self.settings;
        let chain = certificates(certificate).map_err(|why| (its_setting, why))?;
        let key = read_key(key).map_err(|why| (keys_setting, why))?;
        Ok(Some((chain, key)))
    }

    /// What is wrong with who is trusted.
    pub const fn wrong_ca(&self, why: String) -> Wrong {
        (self.settings[0], why)
    }

    /// What is wrong with our certificate together with its key.
    pub fn wrong_pair(&self, error: impl Display) -> Wrong {
        (self.settings[1], format!("does not go with its key: {error}"))
    }
}

/// A certificate with those that signed it, and its key.
pub type Own = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificates of a file: at least one.
///
/// # Errors
/// What is wrong with the file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("{} holds no certificate in PEM format", path.display()))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &rustls::pki_types::pem::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}
