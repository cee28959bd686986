//! Sends the signed calls: the only HTTP client.

mod inquiries;

use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Request, RequestBuilder};
use secrecy::SecretString;
use tokio::time::Instant;
use url::Url;

use super::answer::{self, HttpAnswer, Read};
use super::ca_bundle::CaBundle;
use super::endpoint;
use super::freshness::{Arrival, EkoClock};
use super::keys::{Keys, ReadyKeys};
use super::notice::Notice;
use super::response::{age, date, is_ekos_own, read_body, redact, retry_after, skew};
use super::timing::{OwnTimestamps, Timing};
use eko_connect::credential::{Credential, Refreshed};
use eko_core::command::Command;
use eko_core::verdict::{Cause, Verdict};

/// Time to connect. A connection that does not come about in it has sent nothing, so it is
/// worth telling apart from a call that may have arrived.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections are closed before a usual server closes them (nginx: 75 s), since a call
/// on a connection that is just being closed ends unclear.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Where and how Eko is called.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `EKO_BASE_URL`.
    pub base_url: Url,
    /// `EKO_TIMEOUT`.
    pub timeout: Duration,
    /// `EKO_STAMP_AGE`.
    pub stamp_age: Duration,
    /// `EKO_DEVELOPER_KEY` and `EKO_ACCESS_KEY`.
    pub keys: Keys,
    /// Whom to trust, in place of the system's.
    pub ca_bundle: Option<CaBundle>,
    /// Who calls, for Eko's own logs.
    pub user_agent: &'static str,
}

/// One call and what it told.
#[derive(Debug)]
pub struct CallResult<T> {
    /// What the answer, or its absence, means.
    pub meaning: T,
    /// False for an answer that no row of the tables names.
    pub is_known: bool,
    /// How long it took, body included.
    pub took: Duration,
    /// The HTTP status, where there was an answer.
    pub http_status: Option<u16>,
    /// Eko's `Date` less our clock, in seconds, where the answer is Eko's own, and new.
    pub skew: Option<f64>,
    /// Eko's clock when it wrote the answer, where the answer is Eko's own: its `Date` less its `Age`.
    pub eko_time: Option<Timestamp>,
    /// Whether the answer is older than its question: something on the way had kept it.
    pub is_old: bool,
    /// Whether the answer lacks the `Date` that Eko's own answers had a short time ago.
    pub is_undated: bool,
}

impl<T> CallResult<T> {
    /// Nothing was sent.
    const fn unsent(meaning: T) -> Self {
        let (took, http_status, skew, eko_time) = (Duration::ZERO, None, None, None);
        let (is_known, is_old, is_undated) = (true, false, false);
        Self { meaning, is_known, took, http_status, skew, eko_time, is_old, is_undated }
    }
}

/// The client. One for the process: it keeps the connections.
pub struct Client {
    http: reqwest::Client,
    base_url: Url,
    timeout: Duration,
    keys: RwLock<ReadyKeys>,
    credentials: Keys,
    stamp_age: Duration,
    timestamps: OwnTimestamps,
    /// When the client was made: monotonic times count from then.
    epoch: Instant,
    eko_clock: Mutex<EkoClock>,
    /// Why no connection came about.
    unconnected: Notice,
    /// That an answer was older than its question.
    kept: Notice,
    /// That an answer had no `Date` where others had one.
    undated: Notice,
}

/// A request before it leaves.
struct Outgoing {
    request: RequestBuilder,
    timing: Timing,
}

/// A call without an answer.
enum Lost {
    /// Not a byte of it left.
    NotSent(Cause),
    /// It may have arrived.
    Unanswered(Cause),
}

struct Answered {
    http: HttpAnswer,
    /// Its `Date` and `Age`, and when it came by our clock.
    date: Option<Timestamp>,
    age: Duration,
    at: Timestamp,
}

impl Client {
    /// Builds the client.
    ///
    /// # Errors
    /// Where TLS cannot be set up, or the developer key cannot be a header.
    pub fn new(settings: Settings) -> anyhow::Result<Self> {
        let connect = CONNECT_TIMEOUT.min(settings.timeout.mul_f64(0.9));
        let mut http = reqwest::Client::builder()
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(connect)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .user_agent(settings.user_agent);
        if let Some(CaBundle(certificates)) = settings.ca_bundle {
            http = http.tls_certs_only(certificates);
        }
        Ok(Self {
            http: http.build()?,
            base_url: settings.base_url,
            timeout: settings.timeout,
            keys: RwLock::new(ReadyKeys::new(&settings.keys)?),
            credentials: settings.keys,
            stamp_age: settings.stamp_age,
            timestamps: OwnTimestamps::default(),
            epoch: deadline_after(Duration::ZERO),
            eko_clock: Mutex::default(),
            unconnected: Notice::default(),
            kept: Notice::default(),
            undated: Notice::default(),
        })
    }

    /// Reads again the keys that are given as files, each by `refresh`; whether one is new.
    pub fn refresh_keys(&self, refresh: impl Fn(&Credential<SecretString>) -> Refreshed) -> bool {
        if !self.credentials.refresh(refresh) {
            return false;
        }
        match ReadyKeys::new(&self.credentials) {
            Ok(new) => *self.keys.write().unwrap_or_else(PoisonError::into_inner) = new,
            Err(error) => tracing::error!(
                %error,
                "the new keys are invalid: the previous keys stay in use"
            ),
        }
        true
    }

    /// Whether a key is given as a file.
    pub fn has_key_files(&self) -> bool {
        let Keys { developer_key, access_key } = &self.credentials;
        developer_key.is_in_file() || access_key.is_in_file()
    }

    /// What tells a developer key from another one, made by `digest`.
    pub fn key_fingerprint(&self, digest: impl FnOnce(&[u8]) -> String) -> String {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        digest(keys.developer_key.as_bytes())
    }

    /// The timing of a call that begins now, for a program that shares its key with no other one: a
    /// timestamp `EKO_STAMP_AGE` in the past that no call of this process had, and the time that a call may take.
    pub fn timing(&self) -> Timing {
        let age = i64::try_from(self.stamp_age.as_millis()).unwrap_or(i64::MAX);
        let stamp = self.timestamps.next(now().as_millisecond().saturating_sub(age));
        Timing { stamp, deadline: deadline_after(self.timeout) }
    }

    /// Makes a command's call.
    pub async fn call(&self, command: &Command, timing: Timing) -> CallResult<Verdict> {
        let Some(body) = endpoint::body(command) else {
            return CallResult::unsent(Verdict::not_now(Cause::Misconfigured));
        };
        let json = HeaderValue::from_static("application/json");
        let request = self.http.post(self.url(command)).header(CONTENT_TYPE, json).body(body);
        let read = |http: &HttpAnswer| answer::verdict(command, http);
        let lost = |lost| match lost {
            Lost::NotSent(cause) => Verdict::not_now(cause),
            Lost::Unanswered(cause) => Verdict::unclear(cause),
        };
        self.exchange(Outgoing { request, timing }, read, lost).await
    }

    /// Where a command's call goes.
    pub fn url(&self, command: &Command) -> Url {
        endpoint::url(&self.base_url, command)
    }

    /// Where an inquiry goes, without its query.
    pub fn inquiry_url(&self, tid: &str) -> Url {
        endpoint::inquiry_path(&self.base_url, tid)
    }

    async fn exchange<T>(
        &self,
        outgoing: Outgoing,
        read: impl Fn(&HttpAnswer) -> Read<T>,
        lost: impl Fn(Lost) -> T,
    ) -> CallResult<T> {
        let (began, clock) = (now(), deadline_after(Duration::ZERO));
        let answered = self.send(outgoing).await;
        let took = clock.elapsed();
        match answered {
            Ok(Answered { http, date, age, at }) => {
                let Read { meaning, is_known } = read(&http);
                let http_status = Some(http.status);
                let date = date.filter(|_| is_ekos_own(&http));
                let kept = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
                let eko_time = date.and_then(|date| date.checked_sub(kept).ok());
                let asked = clock.saturating_duration_since(self.epoch);
                let (is_old, is_undated) = self.age_of(&Arrival { asked, took, age, eko_time });
                // A wall clock that was set during the call measures nothing.
                let most = SignedDuration::try_from(took).unwrap_or(SignedDuration::MAX);
                let most = most.saturating_add(SignedDuration::from_secs(1));
                let was_set = at < began || at.duration_since(began) > most;
                let skew = date.filter(|_| !is_old && !was_set).map(|date| skew(date, began, at));
                CallResult {
                    meaning,
                    is_known,
                    took,
                    http_status,
                    skew,
                    eko_time,
                    is_old,
                    is_undated,
                }
            }
            Err(reason) => CallResult {
                meaning: lost(reason),
                is_known: true,
                took,
                http_status: None,
                skew: None,
                eko_time: None,
                is_old: false,
                is_undated: false,
            },
        }
    }

    /// Whether an answer is older than its question, and whether it lacks the `Date` that tells.
    fn age_of(&self, arrival: &Arrival) -> (bool, bool) {
        let mut clock = self.eko_clock.lock().unwrap_or_else(PoisonError::into_inner);
        (clock.is_older_than_its_question(arrival), clock.misses_a_date_in(arrival))
    }

    async fn send(&self, outgoing: Outgoing) -> Result<Answered, Lost> {
        let Outgoing { request, timing: Timing { stamp, deadline } } = outgoing;
        let not_sent = |_| Lost::NotSent(Cause::Misconfigured);
        let request = self.sign(request, stamp).build().map_err(not_sent)?;
        // The process may have been stopped since the attempt was recorded, and another
        // worker may have taken over meanwhile.
        if deadline_after(Duration::ZERO) >= deadline {
            return Err(Lost::NotSent(Cause::Timeout));
        }
        let until = deadline.min(deadline_after(self.timeout));
        match tokio::time::timeout_at(until, self.execute(request)).await {
            Ok(answered) => answered,
            Err(_) => Err(Lost::Unanswered(Cause::Timeout)),
        }
    }

    /// The innermost layer: each request that leaves has a stamp and a signature of its own.
    fn sign(&self, request: RequestBuilder, stamp: i64) -> RequestBuilder {
        let timestamp = stamp.to_string();
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
                if let Lost::NotSent(_) = lost {
                    self.tell_unconnected(error);
                }
                return Err(lost);
            }
        };
        let status = response.status().as_u16();
        let (at, headers) = (now(), response.headers());
        let (date, age, after) = (date(headers), age(headers), retry_after(headers, at));
        let body = read_body(response).await.map(|body| redact(body, sent));
        Ok(Answered { http: HttpAnswer { status, after, body }, date, age, at })
    }
}

impl Client {
    /// Says why no connection comes about.
    fn tell_unconnected(&self, error: reqwest::Error) {
        // The URL of an inquiry holds the initiator's number.
        let why = format!("{:#}", anyhow::Error::new(error.without_url()));
        if self.unconnected.is_due(&why, deadline_after(Duration::ZERO)) {
            tracing::warn!(error = why, "no connection to Eko was made: nothing was sent");
        }
    }
}

/// A connection that did not come about has sent nothing; all else may have arrived.
fn lost(error: &reqwest::Error) -> Lost {
    if error.is_connect() || error.is_builder() {
        Lost::NotSent(Cause::Network)
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
mod tests;
