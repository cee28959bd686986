//! What is taken out of an HTTP response: its body, and the times in its headers.

use std::time::Duration;

use jiff::Timestamp;
use memchr::memchr_iter;
use reqwest::Response;
use reqwest::header::{AGE, DATE, HeaderMap, HeaderValue, RETRY_AFTER};
use serde::de::IgnoredAny;

use super::answer::HttpAnswer;

/// Largest body that is read, in bytes; Eko's have a few hundred.
const MAX_BODY: usize = 1024 * 1024;

/// The body, unless it is too large, or breaks off before its JSON is whole.
pub(super) async fn read_body(mut response: Response) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Some(body),
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY => return None,
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            // A gateway may lose the end of a chunked body, or close without TLS's goodbye.
            Err(_) => return is_whole(&body).then_some(body),
        }
    }
}

/// Whether a body that broke off has all of its JSON object: its last brace is there, so that
/// nothing of what it says is missing.
fn is_whole(body: &[u8]) -> bool {
    let body = without_mark(body).trim_ascii_start();
    body.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

/// A body without the byte order mark that some servers on Windows put first.
fn without_mark(mut body: &[u8]) -> &[u8] {
    while let Some(rest) = body.strip_prefix(b"\xEF\xBB\xBF") {
        body = rest;
    }
    body
}

/// A body in which what signed the call is not repeated, as a page that shows a request does.
pub(super) fn redact(mut body: Vec<u8>, secrets: [Option<HeaderValue>; 2]) -> Vec<u8> {
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

/// `Age`: how long something on the way kept the answer.
pub(super) fn age(headers: &HeaderMap) -> Duration {
    let seconds = |value: &HeaderValue| value.to_str().ok()?.trim().parse().ok();
    Duration::from_secs(headers.get_all(AGE).iter().filter_map(seconds).max().unwrap_or_default())
}

/// Whether Eko wrote the answer, so that its `Date` tells Eko's clock: a JSON object, and no
/// 5xx. The error page of a proxy on the way carries the proxy's.
pub(super) fn is_ekos_own(http: &HttpAnswer) -> bool {
    let is_object = |body: &[u8]| without_mark(body).trim_ascii_start().starts_with(b"{");
    http.status < 500 && http.body.as_deref().is_some_and(is_object)
}

/// How far a `Date` lies outside of the call, in seconds. It was written at some time between
/// the call's begin and the answer: how long the answer was on its way is no skew, nor how long
/// a stopped process left it unread.
pub(super) fn skew(date: Timestamp, began: Timestamp, at: Timestamp) -> f64 {
    date.duration_since(date.clamp(began, at.max(began))).as_secs_f64()
}

/// `Retry-After` in either form: seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let date = Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()?;
            Some(date.duration_since(now).try_into().unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn headers(retry_after: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(retry_after))])
    }

    /// The body of an answer that is sent as given; the connection ends behind it.
    async fn read(answer: &'static str) -> Option<String> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let served = tokio::spawn(async move {
            let (mut socket, _) = server.accept().await.unwrap();
            let mut request = [0; 4096];
            assert!(socket.read(&mut request).await.unwrap() > 0);
            socket.write_all(answer.as_bytes()).await.unwrap();
        });
        let response = reqwest::get(url).await.unwrap();
        served.await.unwrap();
        read_body(response).await.map(|body| String::from_utf8(body).unwrap())
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_counts_only_where_its_json_is_whole() {
        const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = |json: &str| format!("{HEAD}{:x}\r\n{json}\r\n", json.len());
        for (answer, expected) in [
            (chunk(r#"{"status":0,"data":{}}"#), Some(r#"{"status":0,"data":{}}"#)),
            (chunk("{\"status\":0} \r\n"), Some("{\"status\":0} \r\n")),
            (chunk("\u{feff}{\"status\":0}"), Some("\u{feff}{\"status\":0}")),
            (chunk(r#"{"status":0,"data":{}"#), None),
            (chunk(r#"{"status":30"#), None),
            (chunk("1"), None),
            (chunk(""), Some("")),
            (HEAD.to_owned(), None),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"status\":0".to_owned(), None),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned(), Some("{}")),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(read(answer.clone().leak()).await, expected, "{answer}");
        }
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

    #[test]
    fn the_longest_age_counts_and_what_is_no_number_is_none() {
        let aged = |values: &[&'static str]| {
            let value = |value: &&'static str| (AGE, HeaderValue::from_static(value));
            age(&values.iter().map(value).collect()).as_secs()
        };
        assert_eq!(aged(&[]), 0);
        assert_eq!(aged(&["45"]), 45);
        assert_eq!(aged(&["5", " 45 ", "soon"]), 45);
        assert_eq!(aged(&["-3"]), 0);
    }

    #[test]
    fn a_date_within_the_call_is_no_skew_however_long_the_call_took() {
        let at = |second: i64| Timestamp::from_second(1_795_000_000 + second).unwrap();
        assert_eq!(skew(at(3), at(0), at(200)), 0.0);
        assert_eq!(skew(at(300), at(0), at(1)), 299.0);
        assert_eq!(skew(at(-300), at(0), at(100)), -300.0);
    }

    #[test]
    fn only_what_eko_wrote_tells_its_clock() {
        let answer = |status, body: &str| HttpAnswer {
            status,
            after: None,
            body: Some(body.as_bytes().to_vec()),
        };
        assert!(is_ekos_own(&answer(200, " \n{\"status\":0}")));
        assert!(is_ekos_own(&answer(403, "{\"status\":2485}")));
        assert!(is_ekos_own(&answer(200, "\u{feff} {\"status\":0}")));
        assert!(is_ekos_own(&answer(200, "\u{feff}\u{feff}{\"status\":0}")));
        assert!(!is_ekos_own(&answer(200, "\u{feff}<html>")));
        assert!(!is_ekos_own(&answer(502, "{\"error\":\"bad gateway\"}")));
        assert!(!is_ekos_own(&answer(403, "<html>no</html>")));
        assert!(!is_ekos_own(&HttpAnswer { status: 200, after: None, body: None }));
    }
}
