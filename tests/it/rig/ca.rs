//! Certificates made for a test.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

/// Somebody who signs certificates, kept in files of one directory.
pub(crate) struct Ca {
    /// Where its files are.
    pub(crate) dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    /// Makes one in a directory.
    pub(crate) fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = dir.file_name().unwrap().to_str().unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        std::fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// The path of one of its files.
    pub(crate) fn file(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Signs a certificate with this common name and for this host: files `NAME.pem`, `NAME.key`.
    pub(crate) fn sign(&self, name: &str, host: Option<&str>) {
        let hosts = host.map(str::to_owned).into_iter().collect::<Vec<_>>();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = match host {
            Some(_) => vec![ExtendedKeyUsagePurpose::ServerAuth],
            None => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}
