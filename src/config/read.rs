//! Reading single settings; each problem is noted and reading goes on, so that all are told
//! at once. No value of a secret is ever repeated.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use url::{Host, Url};

use super::Problems;
use crate::backoff::Backoff;
use crate::command::{is_mobile, is_user_code};
use crate::eko;
use crate::log::Format;
use crate::privacy::Mobile;

/// The last retry queue: nothing waits longer in the broker.
const LONGEST_DELAY: Duration = Duration::from_secs(3_600);

/// Notes what is wrong while settings are read.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<String>,
}

impl Reader {
    /// Notes that a setting is wrong.
    pub(super) fn wrong(&mut self, name: &str, why: &str) {
        self.problems.push(format!("{name}: {why}"));
    }

    /// All problems, if there are any.
    pub(super) fn finish(self) -> Result<(), Problems> {
        if self.problems.is_empty() { Ok(()) } else { Err(Problems(self.problems)) }
    }

    pub(super) fn noted<T>(&mut self, name: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|why| self.wrong(name, &why)).ok()
    }

    pub(super) fn duration(&mut self, name: &str, text: &str) -> Option<Duration> {
        self.noted(name, duration(text))
    }

    /// A duration that a retry queue can hold.
    pub(super) fn delay(&mut self, name: &str, text: &str) -> Option<Duration> {
        let delay = self.duration(name, text)?;
        if delay > LONGEST_DELAY {
            self.wrong(name, "must be at most 1h");
            return None;
        }
        Some(delay)
    }

    pub(super) fn backoff(
        &mut self,
        name: &str,
        initial: &str,
        max: Option<Duration>,
    ) -> Option<Backoff> {
        let initial = self.duration(name, initial)?;
        let max = max?;
        if initial > max {
            self.wrong(name, "must be at most RETRY_MAX");
            return None;
        }
        Some(Backoff { initial, max })
    }

    pub(super) fn count(&mut self, name: &str, text: &str) -> Option<u32> {
        let count: Option<NonZeroU32> = text.trim().parse().ok();
        let count = count.ok_or_else(|| "must be a whole number above 0".to_owned());
        self.noted(name, count).map(NonZeroU32::get)
    }

    pub(super) fn rate(&mut self, name: &str, text: &str) -> Option<NonZeroU32> {
        self.count(name, text).and_then(NonZeroU32::new)
    }

    /// A timestamp is a millisecond, and no two calls of a key share one.
    pub(super) fn fleet_rate(&mut self, name: &str, text: &str) -> Option<NonZeroU32> {
        let rate = text.trim().parse().ok().filter(|rate: &NonZeroU32| rate.get() <= 1_000);
        self.noted(name, rate.ok_or_else(|| "must be a whole number from 1 to 1000".to_owned()))
    }

    pub(super) fn concurrency(&mut self, name: &str, text: &str) -> Option<u16> {
        let concurrency = text.trim().parse().ok().filter(|n| (1..=10_000).contains(n));
        self.noted(
            name,
            concurrency.ok_or_else(|| "must be a whole number from 1 to 10000".to_owned()),
        )
    }

    /// Yes or no, in the words that people use for them.
    pub(super) fn truth(&mut self, name: &str, text: &str) -> Option<bool> {
        let truth = match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Ok(true),
            "false" | "no" | "off" | "0" => Ok(false),
            _ => Err("must be true or false (or yes or no)".to_owned()),
        };
        self.noted(name, truth)
    }

    pub(super) fn preflight(&mut self, name: &str, text: &str) -> Option<bool> {
        let preflight = match text.trim() {
            "redelivered" => Ok(false),
            "always" => Ok(true),
            _ => Err("must be redelivered or always".to_owned()),
        };
        self.noted(name, preflight)
    }

    pub(super) fn log_format(&mut self, text: Option<&str>, is_terminal: bool) -> Option<Format> {
        let format = match text.map(str::trim) {
            Some("text") => Ok(Format::Text),
            Some("json") => Ok(Format::Json),
            None | Some("") if is_terminal => Ok(Format::Text),
            None | Some("") => Ok(Format::Json),
            Some(_) => Err("must be text or json".to_owned()),
        };
        self.noted("LOG_FORMAT", format)
    }

    pub(super) fn address(&mut self, name: &str, text: &str) -> Option<SocketAddr> {
        let address = text.trim().parse();
        self.noted(
            name,
            address.map_err(|_| "must be an address and a port such as 127.0.0.1:9464".to_owned()),
        )
    }

    pub(super) fn mobile(&mut self, name: &str, text: Option<&str>) -> Option<Mobile> {
        let text = text.map(str::trim).filter(|text| !text.is_empty())?;
        if is_mobile(text) {
            return Some(Mobile::new(text));
        }
        self.wrong(name, "must have 10 digits");
        None
    }

    pub(super) fn user_code(&mut self, name: &str, text: Option<&str>) -> Option<String> {
        let text = text.map(str::trim).filter(|text| !text.is_empty())?;
        if is_user_code(text) {
            return Some(text.to_owned());
        }
        self.wrong(name, "must be 1 to 32 letters, digits, _ or -");
        None
    }

    /// The first part of the broker's names: room is left for the rest of them.
    pub(super) fn prefix(&mut self, name: &str, text: &str) -> Option<String> {
        let usable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if (1..=100).contains(&text.len()) && text.chars().all(usable) {
            return Some(text.to_owned());
        }
        self.wrong(name, "must be 1 to 100 of A-Z a-z 0-9 . _ -");
        None
    }

    pub(super) fn base_url(&mut self, name: &str, text: &str, allow_http: bool) -> Option<Url> {
        let url = Url::parse(text.trim()).map_err(|error| format!("is not a URL: {error}"));
        let url = self.noted(name, url)?;
        let why = match url.scheme() {
            "https" => None,
            "http" if allow_http || is_loopback(&url) => None,
            "http" => Some(
                "plain http is only allowed to loopback: use https, or set EKO_ALLOW_HTTP=true",
            ),
            _ => Some("must begin with https://"),
        };
        let why = why.or_else(|| {
            let is_plain = url.username().is_empty() && url.password().is_none();
            let is_bare = url.query().is_none() && url.fragment().is_none();
            (!is_plain || !is_bare || url.cannot_be_a_base())
                .then_some("must be a scheme, a host and a path, and nothing else")
        });
        match why {
            None => Some(url),
            Some(why) => {
                self.wrong(name, why);
                None
            }
        }
    }

    /// Where spans go; nowhere, if it is empty.
    pub(super) fn otlp(&mut self, name: &str, text: &str) -> Option<Url> {
        let text = Some(text.trim()).filter(|text| !text.is_empty())?;
        let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"));
        let url = self.noted(name, url)?;
        if !matches!(url.scheme(), "http" | "https") {
            self.wrong(name, "must begin with http:// or https://");
            return None;
        }
        Some(url)
    }

    /// Certificates of those who may vouch for Eko.
    pub(super) fn ca_bundle(&mut self, name: &str, path: &str) -> Option<eko::CaBundle> {
        self.noted(name, eko::CaBundle::read(Path::new(path)))
    }

    /// A duration, which may be none at all.
    pub(super) fn age(&mut self, name: &str, text: &str) -> Option<Duration> {
        self.noted(name, age(text))
    }
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// A duration, which may be none at all.
fn age(text: &str) -> Result<Duration, String> {
    match text.trim() {
        "0" | "0s" | "0ms" => Ok(Duration::ZERO),
        text => duration(text).map_err(|_| "must be 0s, or a duration such as 80s".to_owned()),
    }
}

/// A duration above 0; a day has 24 hours.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a duration above 0 such as 500ms, 30s, 5m, 24h or 90d".to_owned();
    let span: Span = text.trim().parse().map_err(|_| wrong())?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    let duration = Duration::try_from(signed).map_err(|_| wrong())?;
    if duration.is_zero() { Err(wrong()) } else { Ok(duration) }
}

/// A duration as it may be set: in whole seconds, or in milliseconds.
pub(super) fn shown(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}
