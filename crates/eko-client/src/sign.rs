//! The signature of a call.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Signs timestamps with one access key.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl Signer {
    /// The HMAC's key is the base64 *text* of the access key, never decoded back.
    pub fn new(access_key: &str) -> Self {
        let text = STANDARD.encode(access_key);
        match Hmac::new_from_slice(text.as_bytes()) {
            Ok(mac) => Self(mac),
            Err(_) => unreachable!("HMAC takes keys of any length"),
        }
    }

    /// The header `secret-key` of a call at this `secret-key-timestamp`.
    pub fn sign(&self, timestamp: &str) -> String {
        let mut mac = self.0.clone();
        mac.update(timestamp.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

/// Whether this program signs as Eko does: its own published example (access key, timestamp,
/// signature) comes out.
pub fn reproduces_the_known_answer() -> bool {
    let (access_key, timestamp) = ("TEST_ACCESS_KEY_DO_NOT_USE", "1700000000000");
    Signer::new(access_key).sign(timestamp) == "u30ak/iOGwKCaspqCeiYng8fd98QDx7kF3DBBOadQHk="
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_are_reproduced() {
        let long = "schlüssel-ключ-कुंजी-₹-🔑";
        for (access_key, timestamp, signature) in [
            (
                "TEST_ACCESS_KEY_DO_NOT_USE",
                "1700000000000",
                "u30ak/iOGwKCaspqCeiYng8fd98QDx7kF3DBBOadQHk=",
            ),
            (
                "test-access-key-123",
                "1700000000000",
                "88lqTf9ew69XbVbeczjxVL8/B4vibfp1MvTi1mIj2Xo=",
            ),
            (
                "TEST_ACCESS_KEY_DO_NOT_USE",
                "1767225599999",
                "jlcoM1gI+mgpbDUZ59VkIZqmM8KjNEiVwE4qPTEFCoQ=",
            ),
            (long, "1700000000000", "5amAbv1QeENxbJera3IGe5HbErqunIc3HfjtKKMsM8Y="),
            (long, "1893456000123", "gIER/Tv2xPz0LJ+010O2otachd5PNmFd1fTTm9ZGD3A="),
            ("a", "1700000000000", "fKQaY3eTuU/ZaLiTaRVwhyRsKXtSp50HIy7h6ktCe2E="),
        ] {
            assert_eq!(Signer::new(access_key).sign(timestamp), signature, "{access_key}");
        }
    }

    #[test]
    fn the_known_answer_of_the_check_comes_out() {
        assert!(reproduces_the_known_answer());
    }

    #[test]
    fn the_raw_key_is_not_what_signs() {
        let mut raw = Hmac::<Sha256>::new_from_slice(b"a").unwrap();
        raw.update(b"1700000000000");
        let wrong = STANDARD.encode(raw.finalize().into_bytes());
        assert_eq!(wrong, "P5vRqkqnLn1qXFezY9WzDBagCtgx88WWUcrtjah2WWI=");
        assert_ne!(Signer::new("a").sign("1700000000000"), wrong);
    }
}
