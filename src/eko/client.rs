//! Sends the signed calls: the only HTTP client.

use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Request, RequestBuilder};
use secrecy::SecretString;
use tokio::time::Instant;
use url::Url;

use super::answer::{self, HttpAnswer, Read};
use super::endpoint;
use super::keys::{Key, KeyFiles, Keys, ReadyKeys, Reread};
use super::response::{date, read_body, retry_after, without};
use super::roots::Roots;
use super::sign::Stamps;
use crate::clock::Stamp;
use crate::command::{Command, Request as Asked};
use crate::verdict::{Cause, Reading, Verdict};

/// Time to connect. A connection that does not come about in it has sent nothing, so it is
/// worth telling apart from a call that may have arrived.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections are closed before a usual server closes them (nginx: 75 s), since a call
/// on a connection that is just being closed ends unclear.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How far timestamps may run ahead of the clock, in milliseconds. Each call takes one of its
/// own, so more than 1,000 calls a second run ahead, and Eko refuses 2 minutes.
const MAX_AHEAD: i64 = 60_000;

/// Between log lines that say the same of a connection that does not come about.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Where and how Eko is called.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `EKO_BASE_URL`.
    pub(crate) base_url: Url,
    /// `EKO_TIMEOUT`.
    pub(crate) timeout: Duration,
    /// `EKO_STAMP_AGE`.
    pub(crate) stamp_age: Duration,
    /// `EKO_DEVELOPER_KEY` and `EKO_ACCESS_KEY`.
    pub(crate) keys: Keys,
    /// Where they came from.
    pub(crate) key_files: KeyFiles,
    /// Whom to trust, in place of the system's.
    pub(crate) roots: Option<Roots>,
}

/// One call and what it told.
#[derive(Debug)]
pub(crate) struct Called<T> {
    /// What the answer, or its absence, means.
    pub(crate) meaning: T,
    /// False for an answer that no row of the tables names.
    pub(crate) is_known: bool,
    /// When the call began.
    pub(crate) began: Timestamp,
    /// How long it took, body included.
    pub(crate) took: Duration,
    /// The HTTP status, where there was an answer.
    pub(crate) http_status: Option<u16>,
    /// Eko's `Date` less our clock, in seconds, where the answer is Eko's own.
    pub(crate) skew: Option<f64>,
    /// What Eko's clock said, where the answer is Eko's own.
    pub(crate) eko_time: Option<Timestamp>,
}

/// The client. One for the process: it owns the timestamps.
pub(crate) struct Client {
    http: reqwest::Client,
    base_url: Url,
    timeout: Duration,
    keys: RwLock<ReadyKeys>,
    key_files: KeyFiles,
    stamps: Stamps,
    /// Why no connection came about, as it was last logged, and when.
    told: Mutex<Option<(String, Instant)>>,
}

/// A call without an answer.
enum Lost {
    /// Not a byte of it left.
    Unsent(Cause),
    /// It may have arrived.
    Unanswered(Cause),
}

struct Answered {
    http: HttpAnswer,
    /// Its `Date`, and when it came by our clock.
    date: Option<Timestamp>,
    at: Timestamp,
}

impl Client {
    /// Builds the client.
    ///
    /// # Errors
    /// Where TLS cannot be set up, or the developer key cannot be a header.
    pub(crate) fn new(settings: Settings) -> anyhow::Result<Self> {
        let connect = CONNECT_TIMEOUT.min(settings.timeout.mul_f64(0.9));
        let mut http = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(connect)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .user_agent(concat!("eko-worker/", env!("CARGO_PKG_VERSION")));
        if let Some(Roots(roots)) = settings.roots {
            http = http.tls_certs_only(roots);
        }
        Ok(Self {
            http: http.build()?,
            base_url: settings.base_url,
            timeout: settings.timeout,
            keys: RwLock::new(ReadyKeys::new(&settings.keys)?),
            key_files: settings.key_files,
            stamps: Stamps::default(),
            told: Mutex::default(),
        })
    }

    /// The wall clock was set.
    pub(crate) fn clock_stepped(&self) {}

    /// Reads again the keys that are given as files.
    pub(crate) fn reread_keys(&self) -> Vec<Reread> {
        let read = self.key_files.read();
        let mut ready = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let replace = |(key, new): (Key, anyhow::Result<SecretString>)| Reread {
            name: key.name(),
            changed: new.and_then(|new| ready.replace(key, new)),
        };
        read.into_iter().map(replace).collect()
    }

    /// The timestamp of one call.
    pub(crate) async fn stamp(&self) -> Stamp {
        self.wait_for_stamps().await;
        Stamp { at: self.stamps.next(now().as_millisecond()), age: Duration::ZERO }
    }

    /// Makes a command's call. Nothing is sent after `deadline`, the end of the claim that
    /// allows it.
    pub(crate) async fn call(
        &self,
        command: &Command,
        _stamp: i64,
        deadline: Instant,
    ) -> Called<Verdict> {
        let url = self.url(command);
        let request = match endpoint::body(command) {
            Ok(body) => {
                let json = HeaderValue::from_static("application/json");
                self.http.post(url).header(CONTENT_TYPE, json).body(body)
            }
            // A struct of strings and numbers always serialises.
            Err(_) => self.http.post(url),
        };
        let read = |http: &HttpAnswer| answer::verdict(command, http);
        let lost = |lost| match lost {
            Lost::Unsent(cause) => Verdict::not_now(cause),
            Lost::Unanswered(cause) => Verdict::unclear(cause),
        };
        self.exchange(request, deadline, read, lost).await
    }

    /// Inquires what became of the transaction that a command is about.
    pub(crate) async fn inquire(
        &self,
        command: &Command,
        tid: &str,
        deadline: Instant,
    ) -> Called<Reading> {
        let (initiator_id, user_code) = match &command.request {
            Asked::Refund(data) => (data.initiator_id.expose(), data.user_code.as_str()),
            Asked::RefundOtp(data) => (data.initiator_id.expose(), ""),
            Asked::TransferOtp(data) => (data.initiator_id.expose(), data.user_code.as_str()),
        };
        let secrets = command.secrets();
        let read = |http: &HttpAnswer| answer::reading(tid, &secrets, http);
        self.inquire_as(tid, initiator_id, user_code, deadline, read).await
    }

    /// One read-only call, to see whether Eko can be reached and takes our signature.
    pub(crate) async fn probe(&self, initiator_id: &str, user_code: &str) -> Called<Reading> {
        self.look_up("1", initiator_id, user_code).await
    }

    /// Inquires about a transaction that no command in hand is about.
    pub(crate) async fn look_up(
        &self,
        tid: &str,
        initiator_id: &str,
        user_code: &str,
    ) -> Called<Reading> {
        self.look_up_until(tid, initiator_id, user_code, deadline_after(self.timeout)).await
    }

    /// The same, where nothing may be sent after `deadline`.
    pub(crate) async fn look_up_until(
        &self,
        tid: &str,
        initiator_id: &str,
        user_code: &str,
        deadline: Instant,
    ) -> Called<Reading> {
        let read = |http: &HttpAnswer| answer::reading(tid, &[initiator_id], http);
        self.inquire_as(tid, initiator_id, user_code, deadline, read).await
    }

    /// Where a command's call goes.
    pub(crate) fn url(&self, command: &Command) -> Url {
        endpoint::url(&self.base_url, command)
    }

    /// Where an inquiry goes, without its query.
    pub(crate) fn inquiry_url(&self, tid: &str) -> Url {
        endpoint::inquiry_path(&self.base_url, tid)
    }

    async fn inquire_as(
        &self,
        tid: &str,
        initiator_id: &str,
        user_code: &str,
        deadline: Instant,
        read: impl Fn(&HttpAnswer) -> Read<Reading>,
    ) -> Called<Reading> {
        let url = endpoint::inquiry_url(&self.base_url, tid, initiator_id, user_code);
        let lost = |lost| match lost {
            Lost::Unsent(cause) | Lost::Unanswered(cause) => Reading::NoAnswer(cause),
        };
        self.exchange(self.http.get(url), deadline, read, lost).await
    }

    async fn exchange<T>(
        &self,
        request: RequestBuilder,
        deadline: Instant,
        read: impl Fn(&HttpAnswer) -> Read<T>,
        lost: impl Fn(Lost) -> T,
    ) -> Called<T> {
        self.wait_for_stamps().await;
        let (began, clock) = (now(), deadline_after(Duration::ZERO));
        let answered = self.send(request, deadline).await;
        let took = clock.elapsed();
        match answered {
            Ok(Answered { http, date, at }) => {
                let Read { meaning, is_known } = read(&http);
                let http_status = Some(http.status);
                let date = date.filter(|_| is_ekos_own(&http));
                let skew = date.map(|date| skew(date, began, at));
                Called { meaning, is_known, began, took, http_status, skew, eko_time: date }
            }
            Err(reason) => {
                let meaning = lost(reason);
                Called {
                    meaning,
                    is_known: true,
                    began,
                    took,
                    http_status: None,
                    skew: None,
                    eko_time: None,
                }
            }
        }
    }

    async fn send(&self, request: RequestBuilder, deadline: Instant) -> Result<Answered, Lost> {
        let unsent = |_| Lost::Unsent(Cause::Misconfigured);
        let request = self.sign(request).build().map_err(unsent)?;
        // The process may have been stopped since the attempt was recorded, and another
        // worker may have taken over meanwhile.
        if deadline_after(Duration::ZERO) >= deadline {
            return Err(Lost::Unsent(Cause::Timeout));
        }
        let until = deadline.min(deadline_after(self.timeout));
        match tokio::time::timeout_at(until, self.execute(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(Lost::Unanswered(Cause::Timeout)),
        }
    }

    /// Holds calls back while timestamps run too far ahead of the clock.
    async fn wait_for_stamps(&self) {
        let ahead = self.stamps.last() - now().as_millisecond() - MAX_AHEAD;
        if let Ok(ahead @ 1..) = u64::try_from(ahead) {
            tokio::time::sleep(Duration::from_millis(ahead)).await;
        }
    }

    /// The innermost layer: each request that leaves has a stamp and a signature of its own.
    fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        let timestamp = self.stamps.next(now().as_millisecond()).to_string();
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let mut signature = HeaderValue::try_from(keys.signer.sign(&timestamp));
        if let Ok(signature) = &mut signature {
            signature.set_sensitive(true);
        }
        request
            .header("developer_key", keys.developer_key.clone())
            .header("secret-key", signature.unwrap_or_else(|_| HeaderValue::from_static("")))
            .header("secret-key-timestamp", timestamp)
    }

    async fn execute(&self, request: Request) -> Result<Answered, Lost> {
        let sent = ["developer_key", "secret-key"].map(|name| request.headers().get(name).cloned());
        let response = match self.http.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                let lost = lost(&error);
                if let Lost::Unsent(_) = lost {
                    self.tell(error);
                }
                return Err(lost);
            }
        };
        let status = response.status().as_u16();
        let (at, headers) = (now(), response.headers());
        let (date, after) = (date(headers), retry_after(headers, at));
        let body = read_body(response).await.map(|body| without(body, sent));
        Ok(Answered { http: HttpAnswer { status, after, body }, date, at })
    }
}

impl Client {
    /// Says why no connection comes about: once, and again now and then, since every call fails
    /// for the same reason.
    fn tell(&self, error: reqwest::Error) {
        // The URL of an inquiry holds the initiator's number.
        let why = format!("{:#}", anyhow::Error::new(error.without_url()));
        let now = deadline_after(Duration::ZERO);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = |(last, at): &(String, Instant)| *last != why || now >= *at + TELL_AGAIN;
        if told.as_ref().is_none_or(is_new) {
            tracing::warn!(error = why, "no connection to Eko: nothing was sent");
            *told = Some((why, now));
        }
    }
}

/// Whether Eko wrote the answer, so that its `Date` tells Eko's clock: a JSON object, and no
/// 5xx. The error page of a proxy on the way carries the proxy's.
fn is_ekos_own(http: &HttpAnswer) -> bool {
    let first = |body: &Vec<u8>| body.iter().find(|byte| !byte.is_ascii_whitespace()).copied();
    http.status < 500 && http.body.as_ref().and_then(first) == Some(b'{')
}

/// How far a `Date` lies outside of the call, in seconds. It was written at some time between
/// the call's begin and the answer: how long the answer was on its way is no skew, nor how long
/// a stopped process left it unread.
fn skew(date: Timestamp, began: Timestamp, at: Timestamp) -> f64 {
    date.duration_since(date.clamp(began, at.max(began))).as_secs_f64()
}

/// A connection that did not come about has sent nothing; all else may have arrived.
fn lost(error: &reqwest::Error) -> Lost {
    if error.is_connect() || error.is_builder() {
        Lost::Unsent(Cause::Network)
    } else if error.is_timeout() {
        Lost::Unanswered(Cause::Timeout)
    } else {
        Lost::Unanswered(Cause::Network)
    }
}

#[expect(clippy::disallowed_methods, reason = "the client stamps its calls and times them")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[expect(clippy::disallowed_methods, reason = "the client stamps its calls and times them")]
fn deadline_after(duration: Duration) -> Instant {
    Instant::now() + duration
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(!is_ekos_own(&answer(502, "{\"error\":\"bad gateway\"}")));
        assert!(!is_ekos_own(&answer(403, "<html>no</html>")));
        assert!(!is_ekos_own(&HttpAnswer { status: 200, after: None, body: None }));
    }
}
