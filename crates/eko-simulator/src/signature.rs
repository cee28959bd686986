//! Whether a request is signed as Eko asks, and what Eko answers when it is not.

use std::collections::{HashSet, VecDeque};

use axum::http::HeaderMap;
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How long a used timestamp is remembered beyond twice the tolerance, so that none slips through.
const REMEMBERED_MS: u64 = 60 * 1000;

/// Why Eko refuses a signature; its number is the `status` of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    DeveloperKey,
    Signature,
    Timestamp,
    NotMilliseconds,
    HeaderMissing,
}

impl Refusal {
    /// Eko's number for it.
    pub(crate) const fn code(self) -> i64 {
        match self {
            Self::DeveloperKey => 2483,
            Self::Signature => 2484,
            Self::Timestamp => 2485,
            Self::NotMilliseconds => 2486,
            Self::HeaderMissing => 2487,
        }
    }

    /// What the answer says.
    pub(crate) const fn message(self) -> &'static str {
        match self {
            Self::DeveloperKey => "Invalid developer_key",
            Self::Signature => "Invalid secret-key",
            Self::Timestamp => "secret-key-timestamp is expired or was used before",
            Self::NotMilliseconds => "secret-key-timestamp is not in milliseconds",
            Self::HeaderMissing => "An authentication header is missing",
        }
    }
}

/// The pair of keys that requests must be signed with.
pub(crate) struct Keys {
    developer_key: String,
    mac: Hmac<Sha256>,
}

impl Keys {
    /// The HMAC key is the base64 text of the access key, not the access key itself.
    pub(crate) fn new(developer_key: &str, access_key: &str) -> Self {
        let text = STANDARD.encode(access_key);
        let mac = Hmac::new_from_slice(text.as_bytes()).expect("HMAC takes a key of any length");
        Self { developer_key: developer_key.to_owned(), mac }
    }

    /// The `secret-key` that belongs to a timestamp.
    pub(crate) fn secret_key(&self, timestamp: &str) -> String {
        let mut mac = self.mac.clone();
        mac.update(timestamp.as_bytes());
        STANDARD.encode(mac.finalize().into_bytes())
    }
}

/// The timestamps used lately, and how old one may be.
pub(crate) struct SeenTimestamps {
    /// A timestamp that is further than this from Eko's own clock, either way, is refused.
    tolerance_ms: u64,
    known: HashSet<u64>,
    in_order: VecDeque<(u64, u64)>,
}

impl SeenTimestamps {
    /// None was used yet.
    pub(crate) fn new(tolerance_ms: u64) -> Self {
        Self { tolerance_ms, known: HashSet::new(), in_order: VecDeque::new() }
    }

    /// Uses up a timestamp, if it is neither too far from this time nor used before.
    pub(crate) fn accept(&mut self, stamp: u64, now_ms: u64) -> bool {
        stamp.abs_diff(now_ms) <= self.tolerance_ms && self.first_use(stamp, now_ms)
    }

    /// Takes a timestamp for unused again: the request that carried it has not arrived yet.
    pub(crate) fn give_back(&mut self, stamp: u64) {
        self.known.remove(&stamp);
        self.in_order.retain(|(_, known)| *known != stamp);
    }

    /// Remembers a timestamp; false if it was used before.
    fn first_use(&mut self, stamp: u64, now_ms: u64) -> bool {
        let remembered_ms = 2 * self.tolerance_ms + REMEMBERED_MS;
        while let Some(&(seen_ms, old)) = self.in_order.front() {
            if now_ms.saturating_sub(seen_ms) <= remembered_ms {
                break;
            }
            self.in_order.pop_front();
            self.known.remove(&old);
        }
        let first = self.known.insert(stamp);
        if first {
            self.in_order.push_back((now_ms, stamp));
        }
        first
    }
}

/// Checks the three headers; a timestamp is used up only by a good signature. Gives the timestamp.
pub(crate) fn check(
    headers: &HeaderMap,
    keys: &Keys,
    stamps: &mut SeenTimestamps,
    now_ms: u64,
) -> Result<u64, Refusal> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (Some(developer_key), Some(secret_key), Some(timestamp)) =
        (text("developer_key"), text("secret-key"), text("secret-key-timestamp"))
    else {
        return Err(Refusal::HeaderMissing);
    };
    if developer_key != keys.developer_key {
        return Err(Refusal::DeveloperKey);
    }
    let digits = timestamp.len() == 13 && timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let stamp: u64 = match timestamp.parse() {
        Ok(stamp) if digits => stamp,
        _ => return Err(Refusal::NotMilliseconds),
    };
    if secret_key != keys.secret_key(timestamp) {
        return Err(Refusal::Signature);
    }
    if stamps.accept(stamp, now_ms) { Ok(stamp) } else { Err(Refusal::Timestamp) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn stamps() -> SeenTimestamps {
        SeenTimestamps::new(120_000)
    }

    fn signed(developer_key: &str, secret_key: &str, timestamp: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("developer_key", developer_key.parse().unwrap());
        headers.insert("secret-key", secret_key.parse().unwrap());
        headers.insert("secret-key-timestamp", timestamp.parse().unwrap());
        headers
    }

    #[test]
    fn all_known_answers_hold() {
        let unicode = "schlüssel-ключ-कुंजी-₹-🔑";
        for (access_key, timestamp, wanted) in [
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
            (unicode, "1700000000000", "5amAbv1QeENxbJera3IGe5HbErqunIc3HfjtKKMsM8Y="),
            (unicode, "1893456000123", "gIER/Tv2xPz0LJ+010O2otachd5PNmFd1fTTm9ZGD3A="),
            ("a", "1700000000000", "fKQaY3eTuU/ZaLiTaRVwhyRsKXtSp50HIy7h6ktCe2E="),
        ] {
            assert_eq!(Keys::new("d", access_key).secret_key(timestamp), wanted);
        }
    }

    #[test]
    fn a_signature_with_the_raw_access_key_is_refused() {
        let raw = "P5vRqkqnLn1qXFezY9WzDBagCtgx88WWUcrtjah2WWI=";
        let headers = signed("d", raw, "1700000000000");
        let keys = Keys::new("d", "a");
        let answer = check(&headers, &keys, &mut stamps(), NOW);
        assert_eq!(answer, Err(Refusal::Signature));
    }

    #[test]
    fn each_fault_has_its_number() {
        let keys = Keys::new("d", "a");
        let good = |stamp: &str| signed("d", &keys.secret_key(stamp), stamp);
        let mut missing = good("1700000000000");
        missing.remove("secret-key");
        let mut mangled = good("1700000000000");
        let value = mangled.remove("developer_key").unwrap();
        mangled.insert("developer-key", value);
        for (headers, code) in [
            (missing, 2487),
            (mangled, 2487),
            (signed("x", &keys.secret_key("1700000000000"), "1700000000000"), 2483),
            (signed("d", "bm8=", "1700000000000"), 2484),
            (good("1700000120001"), 2485),
            (good("1699999879999"), 2485),
            (good("1700000000"), 2486),
            (good("170000000000x"), 2486),
        ] {
            let refusal = check(&headers, &keys, &mut stamps(), NOW).unwrap_err();
            assert_eq!(refusal.code(), code);
        }
        for edge in ["1700000120000", "1699999880000"] {
            let answer = check(&good(edge), &keys, &mut stamps(), NOW);
            assert_eq!(answer, Ok(edge.parse().unwrap()));
        }
    }

    #[test]
    fn a_timestamp_counts_once_within_five_minutes() {
        let mut stamps = stamps();
        assert!(stamps.first_use(1, NOW));
        assert!(!stamps.first_use(1, NOW + 300_000));
        assert!(stamps.first_use(1, NOW + 300_001));
    }

    #[test]
    fn a_timestamp_is_accepted_within_the_tolerance_and_once_until_it_is_given_back() {
        let mut stamps = SeenTimestamps::new(5_000);
        assert!(!stamps.accept(NOW, NOW + 5_001));
        assert!(stamps.accept(NOW, NOW + 5_000));
        assert!(!stamps.accept(NOW, NOW + 5_000));
        stamps.give_back(NOW);
        assert!(stamps.accept(NOW, NOW + 5_000));
        assert!(!stamps.accept(NOW, NOW + 5_000));
    }

    #[test]
    fn a_bad_signature_does_not_use_up_its_timestamp() {
        let keys = Keys::new("d", "a");
        let mut stamps = stamps();
        let forged = signed("d", "bm8=", "1700000000000");
        assert_eq!(check(&forged, &keys, &mut stamps, NOW), Err(Refusal::Signature));
        let good = signed("d", &keys.secret_key("1700000000000"), "1700000000000");
        assert_eq!(check(&good, &keys, &mut stamps, NOW), Ok(NOW));
        assert_eq!(check(&good, &keys, &mut stamps, NOW), Err(Refusal::Timestamp));
    }
}
