//! The files of a TLS connection, which the broker's settings and the ledger's name alike.

use std::path::PathBuf;

use super::read::Reader;

/// Who is trusted, the worker's own certificate, and its key.
pub(super) struct TlsFiles<'a> {
    pub(super) names: [&'static str; 3],
    pub(super) paths: [&'a Option<String>; 3],
}

impl TlsFiles<'_> {
    fn path(&self, nth: usize) -> Option<PathBuf> {
        let path = self.paths.get(nth).and_then(|path| path.as_deref());
        path.filter(|path| !path.is_empty()).map(PathBuf::from)
    }

    /// Who signs the server's certificate.
    pub(super) fn ca(&self) -> Option<PathBuf> {
        self.path(0)
    }

    /// The worker's certificate and its key: both or none.
    pub(super) fn client(&self, reader: &mut Reader) -> Option<Option<(PathBuf, PathBuf)>> {
        let [_, certificate, key] = self.names;
        match (self.path(1), self.path(2)) {
            (Some(certificate), Some(key)) => Some(Some((certificate, key))),
            (None, None) => Some(None),
            (Some(_), None) => {
                reader.wrong(key, &format!("is missing; {certificate} is set"));
                None
            }
            (None, Some(_)) => {
                reader.wrong(certificate, &format!("is missing; {key} is set"));
                None
            }
        }
    }

    /// Notes that each file that is given is of no use, and why.
    pub(super) fn refuse(&self, reader: &mut Reader, why: &str) {
        for (nth, name) in self.names.iter().enumerate() {
            if self.path(nth).is_some() {
                reader.wrong(name, why);
            }
        }
    }
}
