//! Boxes: what is in one, and what can be wrong with it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::key::{KeyPair, PublicKey};

/// Libraries write base64 with padding or without.
const PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING);

/// What a box holds: borrowed, so that no copy of it stays in memory.
#[derive(Serialize, Deserialize)]
struct Inside<'a> {
    id: &'a str,
    otp: &'a str,
}

/// What was in a box.
pub struct Content {
    /// The id of the command that it was made for.
    pub command_id: String,
    /// The OTP: 4 to 8 digits. It is cleared when it is dropped.
    pub otp: SecretString,
}

/// What is wrong with a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is no base64.
    NotBase64,
    /// It is too short for any box.
    TooShort,
    /// No key opens it: it was made for another one, or was changed. A box does not say which.
    NoKeyOpens,
    /// It holds something else than an id and an OTP.
    NotAnOtp,
}

impl Fault {
    /// What is wrong, to follow the name of the field.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::NotBase64 => "is damaged: it is not base64",
            Self::TooShort => "is damaged: it is too short for a sealed box",
            Self::NoKeyOpens => "was sealed for another public key, or is damaged",
            Self::NotAnOtp => {
                "must hold a JSON object with two strings: id, the command's id, and otp, 4 to 8 digits"
            }
        }
    }
}

/// Bytes of an empty box: the sender's key for this box alone, and the cipher's tag.
const EMPTY: usize = 32 + 16;

/// Opens a box by whichever of the keys it was made for.
///
/// # Errors
/// What is wrong with it.
pub fn open<'a>(
    keys: impl IntoIterator<Item = &'a KeyPair>,
    sealed: &str,
) -> Result<Content, Fault> {
    // The alphabet for URLs is the default of libsodium's JavaScript.
    let text = sealed.replace('-', "+").replace('_', "/");
    let sealed = ANY_PADDING.decode(text).map_err(|_| Fault::NotBase64)?;
    if sealed.len() < EMPTY {
        return Err(Fault::TooShort);
    }
    let opened = keys.into_iter().find_map(|key| key.0.unseal(&sealed).ok());
    let content = Zeroizing::new(opened.ok_or(Fault::NoKeyOpens)?);
    let Inside { id, otp } = serde_json::from_slice(&content).map_err(|_| Fault::NotAnOtp)?;
    let is_otp = (4..=8).contains(&otp.len()) && otp.bytes().all(|byte| byte.is_ascii_digit());
    if !is_otp {
        return Err(Fault::NotAnOtp);
    }
    Ok(Content { command_id: id.to_owned(), otp: otp.into() })
}

impl PublicKey {
    /// A box with an OTP for the command with this id; `None` where it cannot be made.
    pub fn seal(&self, id: &str, otp: &SecretString) -> Option<String> {
        let inside = Inside { id, otp: otp.expose_secret() };
        let content = Zeroizing::new(serde_json::to_vec(&inside).ok()?);
        Some(STANDARD.encode(self.seal_bytes(&content)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key, and a box that libsodium (`PyNaCl` 1.6.2) made for it.
    const LIBSODIUM_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    const LIBSODIUM_BOX: &str = "5Iwh+9iaHZEQ7eHg8SOdOdzVR9zOgI2vgAA066ieE0HR1vmDqjelqsFSS+ciieutVd+bLywo785kFm8nHli5WMS6fUMPoPL8uvQKXIlUgxK9vDDDgaLXIgdz";

    fn sealed(key: &KeyPair) -> String {
        key.public().seal("ord-7731-refund", &"0123456".into()).unwrap()
    }

    fn fault(keys: &[KeyPair], sealed: &str) -> Fault {
        open(keys, sealed).map(drop).unwrap_err()
    }

    #[test]
    fn a_box_that_libsodium_made_opens() {
        let keys = KeyPair::read_all(LIBSODIUM_KEY).unwrap();
        let content = open(&keys, LIBSODIUM_BOX).unwrap();
        assert_eq!(content.command_id, "ord-7731-refund");
        assert_eq!(content.otp.expose_secret(), "123456");
    }

    #[test]
    fn a_box_opens_with_the_one_key_that_it_was_made_for_however_its_base64_is_written() {
        let (old, new) = (KeyPair::generate(), KeyPair::generate());
        for key in [&old, &new] {
            let text = sealed(key);
            let url = text.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
            for text in [text, url] {
                let content = open(&[new.clone(), old.clone()], &text).unwrap();
                assert_eq!(content.command_id, "ord-7731-refund");
                assert_eq!(content.otp.expose_secret(), "0123456");
            }
        }
        assert_eq!(fault(&[new], &sealed(&old)), Fault::NoKeyOpens);
    }

    #[test]
    fn a_damaged_box_says_how_it_is_damaged() {
        let key = [KeyPair::generate()];
        let whole = STANDARD.decode(sealed(&key[0])).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert_eq!(fault(&key, &STANDARD.encode(changed)), Fault::NoKeyOpens, "{at}");
        }
        assert_eq!(fault(&key, &STANDARD.encode(&whole[..47])), Fault::TooShort);
        assert_eq!(fault(&key, &STANDARD.encode(&whole[..48])), Fault::NoKeyOpens);
        assert_eq!(fault(&key, "12345"), Fault::NotBase64);
        let public = key[0].public();
        for inside in [
            "",
            "123456",
            "{}",
            r#"{"id":"a"}"#,
            r#"{"id":"a","otp":123456}"#,
            r#"{"id":"a","otp":"123"}"#,
            r#"{"id":"a","otp":"123456789"}"#,
            r#"{"id":"a","otp":"12a4"}"#,
        ] {
            let sealed = STANDARD.encode(public.seal_bytes(inside.as_bytes()).unwrap());
            assert_eq!(fault(&key, &sealed), Fault::NotAnOtp, "{inside}");
        }
    }

    #[test]
    fn a_key_file_is_read_as_it_is_written_and_no_key_prints_itself() {
        let (one, other) = (KeyPair::generate(), KeyPair::generate());
        let files = [&one, &other].map(|key| key.to_file().expose_secret().to_owned());
        let both = KeyPair::read_all(&files.concat()).unwrap();
        let public: Vec<_> = both.iter().map(KeyPair::public).collect();
        assert_eq!(public, [one.public(), other.public()]);
        let read = PublicKey::read(&format!(" {}\n", one.public())).unwrap();
        assert_eq!(read, one.public());
        let secret = files[0].lines().nth(1).unwrap();
        assert!(!format!("{one:?}").contains(secret));
        for (text, why) in [
            ("", "has no key"),
            ("# only this", "has no key"),
            ("\nAAAA", "line 2 is not a key: 32 bytes in base64, as keygen writes it"),
            ("hunter2", "line 1 is not a key: 32 bytes in base64, as keygen writes it"),
        ] {
            assert_eq!(KeyPair::read_all(text).map(drop).unwrap_err(), why);
        }
        assert_eq!(PublicKey::read("AAAA"), None);
    }
}
