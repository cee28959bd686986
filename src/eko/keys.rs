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

impl KeyFiles {
    /// Reads both keys, where both are given as files.
    ///
    /// # Errors
    /// Where a file cannot be read or holds no key.
    pub(super) fn read(&self) -> anyhow::Result<Option<Keys>> {
        let (Some(developer), Some(access)) = (&self.developer_key, &self.access_key) else {
            return Ok(None);
        };
        Ok(Some(Keys { developer_key: read_key(developer)?, access_key: read_key(access)? }))
    }
}

/// Keys in the form in which they are used.
pub(super) struct ReadyKeys {
    pub(super) developer_key: HeaderValue,
    pub(super) signer: Signer,
}

impl ReadyKeys {
    pub(super) fn new(keys: &Keys) -> anyhow::Result<Self> {
        let mut developer_key = HeaderValue::from_str(keys.developer_key.expose_secret())?;
        developer_key.set_sensitive(true);
        Ok(Self { developer_key, signer: Signer::new(keys.access_key.expose_secret()) })
    }
}

fn read_key(path: &Path) -> anyhow::Result<SecretString> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let key = text.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!key.is_empty(), "{} is empty", path.display());
    Ok(SecretString::from(key))
}
