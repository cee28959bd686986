//! The keys that Eko issued, and the files that they may be read from again.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::sign::Signer;

/// The keys that Eko issued.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    /// Goes along with each call.
    pub(crate) developer_key: SecretString,
    /// Signs each call and never leaves.
    pub(crate) access_key: SecretString,
}

/// The files that hold the keys, where they are given so.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyFiles {
    /// `EKO_DEVELOPER_KEY_FILE`.
    pub(crate) developer_key: Option<PathBuf>,
    /// `EKO_ACCESS_KEY_FILE`.
    pub(crate) access_key: Option<PathBuf>,
}

/// What came of reading one key's file again.
#[derive(Debug)]
pub(crate) struct Reread {
    /// The setting.
    pub(crate) name: &'static str,
    /// Whether the key is another one now; where the file is no use, the key stays.
    pub(crate) changed: anyhow::Result<bool>,
}

impl KeyFiles {
    /// Reads the keys that are given as files.
    pub(super) fn read(&self) -> Vec<(Key, anyhow::Result<SecretString>)> {
        let files = [(Key::Developer, &self.developer_key), (Key::Access, &self.access_key)];
        let read = |(key, file): (Key, &Option<PathBuf>)| Some((key, read_key(file.as_ref()?)));
        files.into_iter().filter_map(read).collect()
    }
}

/// Which key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key {
    Developer,
    Access,
}

impl Key {
    /// The setting.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Developer => "EKO_DEVELOPER_KEY",
            Self::Access => "EKO_ACCESS_KEY",
        }
    }
}

/// Keys in the form in which they are used.
pub(super) struct ReadyKeys {
    keys: Keys,
    pub(super) developer_key: HeaderValue,
    pub(super) signer: Signer,
}

impl ReadyKeys {
    pub(super) fn new(keys: &Keys) -> anyhow::Result<Self> {
        let mut developer_key = HeaderValue::from_str(keys.developer_key.expose_secret())?;
        developer_key.set_sensitive(true);
        let signer = Signer::new(keys.access_key.expose_secret());
        Ok(Self { keys: keys.clone(), developer_key, signer })
    }

    /// Takes a key in place of the one it has; tells whether it is another.
    pub(super) fn replace(&mut self, key: Key, new: SecretString) -> anyhow::Result<bool> {
        let mut keys = self.keys.clone();
        let old = match key {
            Key::Developer => &mut keys.developer_key,
            Key::Access => &mut keys.access_key,
        };
        if old.expose_secret() == new.expose_secret() {
            return Ok(false);
        }
        *old = new;
        // The library's error would not say which of the two it is.
        *self = Self::new(&keys).map_err(|_| anyhow::anyhow!("holds a control character"))?;
        Ok(true)
    }
}

fn read_key(path: &Path) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    // An editor on Windows puts a byte order mark first, which would be signed with.
    let key = text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!key.is_empty(), "{} is empty", path.display());
    Ok(SecretString::from(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> ReadyKeys {
        ReadyKeys::new(&Keys { developer_key: "first".into(), access_key: "first".into() }).unwrap()
    }

    #[test]
    fn each_file_is_read_by_itself_and_only_another_key_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access");
        let files = KeyFiles { developer_key: None, access_key: Some(path.clone()) };
        assert!(files.read()[0].1.is_err(), "it is not there yet");
        std::fs::write(&path, "\u{feff}second\r\n").unwrap();
        let read = files.read();
        assert_eq!(read.iter().map(|(key, _)| key.name()).collect::<Vec<_>>(), ["EKO_ACCESS_KEY"]);
        let mut ready = keys();
        let before = ready.signer.sign("1700000000000");
        for (expected, (key, new)) in
            [true, false].into_iter().zip(read.into_iter().chain(files.read()))
        {
            assert_eq!(ready.replace(key, new.unwrap()).unwrap(), expected);
        }
        assert_ne!(ready.signer.sign("1700000000000"), before);
        let second = Signer::new("second").sign("1700000000000");
        assert_eq!(ready.signer.sign("1700000000000"), second, "without the byte order mark");
        assert_eq!(ready.developer_key, "first");
    }

    #[test]
    fn a_key_that_cannot_be_sent_leaves_the_old_one() {
        let mut ready = keys();
        let told = ready.replace(Key::Developer, "hunter\u{7}2".into()).unwrap_err().to_string();
        assert!(!told.contains("hunter"), "{told}");
        assert_eq!(ready.developer_key, "first");
    }
}
