//! Keys: those that open boxes, and those that boxes are made for.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::aead::OsRng;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// Bytes of a key.
const SIZE: usize = 32;

/// A key that opens boxes. It cannot print itself, and is cleared when it is dropped.
#[derive(Clone)]
pub struct KeyPair(pub(super) crypto_box::SecretKey);

/// A key that boxes are made for. Everybody may know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(crypto_box::PublicKey);

impl KeyPair {
    /// A new key, of the system's random bytes.
    pub fn generate() -> Self {
        Self(crypto_box::SecretKey::generate(&mut OsRng))
    }

    /// Reads a key file: a key a line, in base64. Blank lines, and those that begin with `#`, are no
    /// keys.
    ///
    /// # Errors
    /// Where a line is no key, or there is none. The text is not repeated.
    pub fn read_all(text: &str) -> Result<Vec<Self>, String> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bytes = Zeroizing::new(STANDARD.decode(line).unwrap_or_default());
            let key = crypto_box::SecretKey::from_slice(&bytes).map_err(|_| {
                format!("line {} is not a key: 32 bytes in base64, as keygen writes it", index + 1)
            })?;
            keys.push(Self(key));
        }
        if keys.is_empty() { Err("has no key".to_owned()) } else { Ok(keys) }
    }

    /// The text of a key file with this key.
    pub fn to_file(&self) -> SecretString {
        let bytes = Zeroizing::new(self.0.to_bytes());
        let key = SecretString::from(STANDARD.encode(bytes.as_slice()));
        let about = "# Opens the OTPs that are sealed for the public key";
        format!("{about} {}\n{}\n", self.public(), key.expose_secret()).into()
    }

    /// What boxes are made for so that this key opens them.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.public_key())
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({})", self.public())
    }
}

impl PublicKey {
    /// Reads a public key, in base64.
    pub fn read(text: &str) -> Option<Self> {
        let bytes: [u8; SIZE] = STANDARD.decode(text.trim()).ok()?.try_into().ok()?;
        Some(Self(crypto_box::PublicKey::from_bytes(bytes)))
    }

    /// Puts something into a box that only the key's owner can open; `None` where the cipher refuses.
    pub(super) fn seal_bytes(&self, content: &[u8]) -> Option<Vec<u8>> {
        self.0.seal(&mut OsRng, content).ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0.as_bytes()))
    }
}
