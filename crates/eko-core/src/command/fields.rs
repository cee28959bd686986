//! The fields of a command: each is read, checked and normalised by one function, and its
//! error says which field is wrong and why, never what stood there.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::civil::date;
use jiff::fmt::temporal::Pieces;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::number;
use super::rules::{self, Bytes, Digits, Word};
use super::{Defaults, GivenOtp, Kind, Request};
use crate::json;
use crate::privacy::{Mobile, Otp, OtpRef, SealedOtp, hide_otps, scrub};

/// Reads `data`, an object without a field that is unknown or stands there twice.
pub(super) fn object<'a, T: Deserialize<'a>>(data: &'a RawValue) -> Result<T, String> {
    if !data.get().starts_with('{') {
        return Err("data: must be an object".to_owned());
    }
    serde_json::from_str(data.get()).map_err(|error| format!("data: {}", sentence(&error)))
}

/// What serde found wrong, without its position, which is one inside a fragment.
pub(super) fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    // The name of an unknown field may be what its value should have been.
    hide_otps(&scrub(&text[..end], &[]))
}

/// The value of a field that must be there.
pub(super) fn required<'a>(name: &str, raw: Option<&'a RawValue>) -> Result<&'a RawValue, String> {
    raw.ok_or_else(|| format!("{name}: is missing"))
}

/// A JSON string.
pub(super) fn text<'a>(name: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, String> {
    json::string(raw).ok_or_else(|| format!("{name}: must be a string"))
}

/// A string of an attribute that nothing depends on.
pub(super) fn lenient_text(raw: &RawValue) -> Option<String> {
    text("", raw).ok().map(Cow::into_owned)
}

/// The command's id: 1 to 64 of `A-Z a-z 0-9 . _ : -`.
pub(super) fn id(name: &str, raw: &RawValue) -> Result<String, String> {
    let id = text(name, raw)?;
    if rules::ID.fits(&id) { Ok(id.into_owned()) } else { Err(unlike(name, &rules::ID)) }
}

/// The attribute `correlationid`; AMQP carries at most 255 bytes of it.
pub(super) fn correlation_id(raw: Option<&RawValue>) -> Result<Option<String>, String> {
    let Some(raw) = raw else { return Ok(None) };
    let id = text("correlationid", raw)?;
    if rules::CORRELATION_ID.fits(&id) {
        Ok(Some(id.into_owned()))
    } else {
        Err(too_long("correlationid", &rules::CORRELATION_ID))
    }
}

/// An RFC 3339 time until which something may begin; `None` where there is no end to it, since
/// none is given or since it is the last day that there is.
pub(super) fn deadline(name: &str, raw: Option<&RawValue>) -> Result<Option<Timestamp>, String> {
    let Some(raw) = raw else { return Ok(None) };
    let text = text(name, raw)?;
    match text.parse() {
        Ok(deadline) => Ok(Some(deadline)),
        Err(_) if is_end_of_time(&text) => Ok(None),
        Err(_) => Err(format!("{name}: must be an RFC 3339 time such as 2026-11-21T09:10:00Z")),
    }
}

/// Whether a text is a time of the last days of the year 9999, beyond those that we can hold.
fn is_end_of_time(text: &str) -> bool {
    let Ok(pieces) = Pieces::parse(text) else { return false };
    let is_time = pieces.time().is_some() && pieces.offset().is_some();
    is_time && pieces.date() >= date(9999, 12, 30)
}

/// Digits given as a string or as a number that loses none of them.
fn digits<'a>(name: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, String> {
    let given = match raw.get().as_bytes().first() {
        Some(b'"') => text(name, raw)?,
        Some(_) | None => number::whole(raw.get())
            .ok_or_else(|| format!("{name}: must be digits, as a string or a whole number"))?,
    };
    if !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(given)
    } else {
        Err(format!("{name}: must be digits only"))
    }
}

pub(super) fn sized_digits<'a>(
    name: &str,
    raw: &'a RawValue,
    rule: &Digits,
) -> Result<Cow<'a, str>, String> {
    let given = digits(name, raw)?;
    if rule.fits(given.len()) {
        return Ok(given);
    }
    Err(format!("{name}: must have {} digits, has {}", rule.range(), given.len()))
}

fn unlike(name: &str, rule: &Word) -> String {
    let others: String = rule.others.chars().flat_map(|other| [' ', other]).collect();
    format!("{name}: must be 1 to {} of A-Z a-z 0-9{others}", rule.most)
}

fn too_long(name: &str, rule: &Bytes) -> String {
    format!("{name}: must have 1 to {} bytes", rule.most)
}

/// A whole JSON number; else what is wrong, of which `rule` says what it must be.
fn whole(raw: &RawValue, rule: &str) -> Result<u64, String> {
    if raw.get().starts_with('"') {
        return Err(format!("must be a JSON number, not a string: {rule}"));
    }
    let number = number::whole(raw.get()).and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| format!("must be {rule}"))
}

// A length before each value keeps two different commands from one canonical text.
fn note(canonical: &mut String, name: &str, value: &str) {
    let length = value.len().to_string();
    for part in ["\n", name, "=", &length, ":", value] {
        canonical.push_str(part);
    }
}

/// Bytes of a normal form, as good as always: one that grows is copied.
const USUAL_LENGTH: usize = 512;

/// Reads the fields of one command's `data` and remembers them in one normal form.
pub(super) struct Fields {
    canonical: String,
    /// The tid as it was given, where that is not its one form.
    given_tid: Option<String>,
}

/// What was read of one command's `data`.
pub(super) struct Read {
    pub(super) request: Request,
    pub(super) canonical: String,
    pub(super) previous_canonical: Option<String>,
}

impl Fields {
    pub(super) fn new(kind: Kind) -> Self {
        let mut canonical = String::with_capacity(USUAL_LENGTH);
        canonical.push_str(kind.as_str());
        Self { canonical, given_tid: None }
    }

    /// The request, with kind and given fields in the order in which they were read.
    pub(super) fn read(self, request: Request) -> Read {
        let previous_canonical = self.given_tid.and_then(|given| {
            let tid = rules::normal_tid(&given)?;
            // The tid is the first field of each kind that has one.
            let [previous, now] = [&*given, tid].map(|tid| {
                let mut noted = String::new();
                note(&mut noted, "tid", tid);
                noted
            });
            Some(self.canonical.replacen(&now, &previous, 1))
        });
        Read { request, canonical: self.canonical, previous_canonical }
    }

    pub(super) fn note(&mut self, name: &str, value: &str) {
        note(&mut self.canonical, name, value);
    }

    pub(super) fn tid(&mut self, raw: Option<&RawValue>) -> Result<String, String> {
        let given = sized_digits("data.tid", required("data.tid", raw)?, &rules::TID)?;
        let tid = rules::normal_tid(&given).ok_or("data.tid: must be a number above 0")?;
        self.note("tid", tid);
        if tid.len() < given.len() {
            self.given_tid = Some(given.to_string());
        }
        Ok(tid.to_owned())
    }

    fn otp(&mut self, raw: Option<&RawValue>) -> Result<Otp, String> {
        let otp = sized_digits("data.otp", required("data.otp", raw)?, &rules::OTP)?;
        self.note("otp", &otp);
        Ok(Otp::new(&otp))
    }

    /// An OTP, open or sealed. Boxes are not compared: two of the same OTP differ.
    pub(super) fn given_otp(
        &mut self,
        open: Option<&RawValue>,
        sealed: Option<&RawValue>,
    ) -> Result<GivenOtp, String> {
        let Some(raw) = sealed else { return self.otp(open).map(GivenOtp::Open) };
        if open.is_some() {
            return Err("data: has both otp and otp_sealed; send one of them".to_owned());
        }
        let sealed = text("data.otp_sealed", raw)?;
        if !rules::OTP_SEALED.fits(&sealed) {
            return Err(unlike("data.otp_sealed", &rules::OTP_SEALED));
        }
        self.note("otp_sealed", "");
        Ok(GivenOtp::Sealed(SealedOtp::new(&sealed)))
    }

    pub(super) fn otp_ref_id(&mut self, raw: Option<&RawValue>) -> Result<Option<OtpRef>, String> {
        let Some(raw) = raw else { return Ok(None) };
        let reference = text("data.otp_ref_id", raw)?;
        if !rules::OTP_REF_ID.fits(&reference) {
            return Err(too_long("data.otp_ref_id", &rules::OTP_REF_ID));
        }
        self.note("otp_ref_id", &reference);
        Ok(Some(OtpRef::new(&reference)))
    }

    pub(super) fn user_code(
        &mut self,
        raw: Option<&RawValue>,
        defaults: &Defaults,
    ) -> Result<String, String> {
        let Some(raw) = raw else {
            return defaults.user_code.clone().ok_or_else(|| {
                "data.user_code: is missing, and the worker has no EKO_USER_CODE".to_owned()
            });
        };
        let code = if raw.get().starts_with('"') {
            text("data.user_code", raw)?
        } else {
            digits("data.user_code", raw)?
        };
        let is_too_long = !raw.get().starts_with('"') && code.parse::<u64>().is_err();
        if !is_user_code(&code) || is_too_long {
            return Err("data.user_code: must be 1 to 32 letters, digits, _ or -".to_owned());
        }
        self.note("user_code", &code);
        Ok(code.into_owned())
    }

    pub(super) fn initiator_id(
        &mut self,
        raw: Option<&RawValue>,
        defaults: &Defaults,
    ) -> Result<Mobile, String> {
        let Some(raw) = raw else {
            return defaults.initiator_id.clone().ok_or_else(|| {
                "data.initiator_id: is missing, and the worker has no EKO_INITIATOR_ID".to_owned()
            });
        };
        let number = sized_digits("data.initiator_id", raw, &rules::MOBILE)?;
        self.note("initiator_id", &number);
        Ok(Mobile::new(&number))
    }

    pub(super) fn customer_id(&mut self, raw: Option<&RawValue>) -> Result<Mobile, String> {
        let raw = required("data.customer_id", raw)?;
        let number = sized_digits("data.customer_id", raw, &rules::MOBILE)?;
        self.note("customer_id", &number);
        Ok(Mobile::new(&number))
    }

    /// Eko takes a number here, so a leading zero would be lost.
    pub(super) fn recipient_id(&mut self, raw: Option<&RawValue>) -> Result<u64, String> {
        let raw = required("data.recipient_id", raw)?;
        let id = sized_digits("data.recipient_id", raw, &rules::RECIPIENT_ID)?;
        if rules::RECIPIENT_ID.is_number && id.starts_with('0') {
            return Err("data.recipient_id: must be a number above 0, without leading 0".to_owned());
        }
        self.note("recipient_id", &id);
        id.parse().map_err(|_| "data.recipient_id: must be a whole number".to_owned())
    }

    pub(super) fn amount(&mut self, raw: Option<&RawValue>) -> Result<u64, String> {
        let rule = "a whole number of rupees above 0";
        let amount = whole(required("data.amount", raw)?, rule);
        let amount = amount.map_err(|why| format!("data.amount: {why}"))?;
        if amount == 0 {
            return Err(format!("data.amount: must be {rule}"));
        }
        self.note("amount", &amount.to_string());
        Ok(amount)
    }

    pub(super) fn client_ref_id(
        &mut self,
        raw: Option<&RawValue>,
    ) -> Result<Option<String>, String> {
        let Some(raw) = raw else { return Ok(None) };
        let reference = text("data.client_ref_id", raw)?;
        if !rules::CLIENT_REF_ID.fits(&reference) {
            return Err(unlike("data.client_ref_id", &rules::CLIENT_REF_ID));
        }
        self.note("client_ref_id", &reference);
        Ok(Some(reference.into_owned()))
    }

    pub(super) fn fixed_code(
        &mut self,
        name: &str,
        raw: Option<&RawValue>,
    ) -> Result<Option<u32>, String> {
        let Some(raw) = raw else { return Ok(None) };
        let rule = "a whole number below 4294967296";
        let code = whole(raw, rule)
            .and_then(|code| u32::try_from(code).map_err(|_| format!("must be {rule}")));
        let code = code.map_err(|why| format!("data.{name}: {why}"))?;
        self.note(name, &code.to_string());
        Ok(Some(code))
    }
}

/// Whether a user code can be sent: 1 to 32 letters, digits, `_` or `-`.
pub fn is_user_code(code: &str) -> bool {
    rules::USER_CODE.fits(code)
}

/// Whether a number can be an API user's mobile: 10 digits.
pub fn is_mobile(digits: &str) -> bool {
    rules::MOBILE.fits(digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}
