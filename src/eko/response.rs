//! What is taken out of an HTTP response: its body, and the times in its headers.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use memchr::memchr_iter;
use reqwest::Response;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};

/// Largest body that is read, in bytes; Eko's have a few hundred.
const MAX_BODY: usize = 1024 * 1024;

/// The body, unless it breaks off or is too large.
pub(super) async fn read_body(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_BODY {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body)
}

/// A body in which what signed the call is not repeated, as a page that shows a request does.
pub(super) fn without(mut body: Vec<u8>, secrets: [Option<HeaderValue>; 2]) -> Vec<u8> {
    for secret in secrets.iter().flatten().map(HeaderValue::as_bytes) {
        let Some(&last) = secret.last() else { continue };
        let ends: Vec<usize> = memchr_iter(last, &body)
            .map(|at| at + 1)
            .filter(|&end| body[..end].ends_with(secret))
            .collect();
        for end in ends {
            body[end - secret.len()..end].fill(b'X');
        }
    }
    body
}

/// Eko's clock, as its answer tells it.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
    Timestamp::try_from(date).ok()
}

/// `Retry-After` in either form: seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?;
            Some(date.duration_since(SystemTime::from(now)).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(retry_after: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(retry_after))])
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now: Timestamp = "2026-11-21T09:00:00Z".parse().unwrap();
        let seconds = |text| retry_after(&headers(text), now).map(|after| after.as_secs());
        assert_eq!(seconds("120"), Some(120));
        assert_eq!(seconds("Sat, 21 Nov 2026 09:00:30 GMT"), Some(30));
        assert_eq!(seconds("Sat, 21 Nov 2026 08:00:00 GMT"), Some(0));
        assert_eq!(seconds("soon"), None);
    }
}
