//! The files of a TLS connection, which the broker's settings and the ledger's name alike.

use std::path::PathBuf;

use super::read::Reader;
use crate::pem::TlsFiles;

/// Who is trusted, the worker's own certificate, and its key.
pub(super) struct TlsPaths<'a> {
    pub(super) settings: [&'static str; 3],
    pub(super) paths: [&'a Option<String>; 3],
}

impl TlsPaths<'_> {
    fn path(&self, nth: usize) -> Option<PathBuf> {
        let path = self.paths.get(nth).and_then(|path| path.as_deref());
        path.filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// The files; the worker's certificate and its key are both given or none.
    pub(super) fn read(&self, reader: &mut Reader) -> Option<TlsFiles> {
        let (settings, ca) = (self.settings, self.path(0));
        Some(TlsFiles { settings, ca, client: self.client(reader)? })
    }

    fn client(&self, reader: &mut Reader) -> Option<Option<(PathBuf, PathBuf)>> {
        let [_, certificate, key] = self.settings;
        match (self.path(1), self.path(2)) {
            (Some(certificate), Some(key)) => Some(Some((certificate, key))),
            (None, None) => Some(None),
            (Some(_), None) => {
                reader.wrong(
                    key,
                    &format!("is missing, but {certificate} is set: set both, or neither"),
                );
                None
            }
            (None, Some(_)) => {
                reader.wrong(
                    certificate,
                    &format!("is missing, but {key} is set: set both, or neither"),
                );
                None
            }
        }
    }

    /// Notes that each file that is given is of no use, and why.
    pub(super) fn refuse(&self, reader: &mut Reader, why: &str) {
        for (nth, name) in self.settings.iter().enumerate() {
            if self.path(nth).is_some() {
                reader.wrong(name, why);
            }
        }
    }
}
