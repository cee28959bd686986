//! The keys that Eko issued.

use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::sign::Signer;
use eko_connect::credential::{Credential, Refreshed};

/// The keys that Eko issued.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Goes along with each call.
    pub developer_key: Credential<SecretString>,
    /// Signs each call and never leaves.
    pub access_key: Credential<SecretString>,
}

impl Keys {
    /// What a key must be to be sent in a header.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<SecretString, String> {
        if text.contains('\u{feff}') {
            return Err("holds a byte order mark, an invisible character: take it out".to_owned());
        }
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("is empty or holds a control character".to_owned());
        }
        Ok(text.into())
    }

    /// Reads again those that are given as files.
    pub(super) fn refresh(&self, refresh: impl Fn(&Credential<SecretString>) -> Refreshed) -> bool {
        let refreshed = [&self.developer_key, &self.access_key].map(refresh);
        refreshed.contains(&Refreshed::New)
    }
}

/// Keys in the form in which they are used.
pub(super) struct ReadyKeys {
    pub(super) developer_key: HeaderValue,
    pub(super) signer: Signer,
}

impl ReadyKeys {
    pub(super) fn new(keys: &Keys) -> anyhow::Result<Self> {
        let mut developer_key = HeaderValue::from_str(keys.developer_key.value().expose_secret())?;
        developer_key.set_sensitive(true);
        let signer = Signer::new(keys.access_key.value().expose_secret());
        Ok(Self { developer_key, signer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_be_sent_is_none_and_is_not_repeated() {
        for wrong in ["", "hunter\u{7}2", "hunter\u{feff}2"] {
            let told = Keys::read(wrong).unwrap_err();
            assert!(!told.contains("hunter"), "{told}");
        }
        assert_eq!(Keys::read("hunter2").unwrap().expose_secret(), "hunter2");
    }
}
