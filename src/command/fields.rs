//! The fields of a command: each is read, checked and normalised by one function, and its
//! error says which field is wrong and why, never what stood there.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::rules::{self, Bytes, Digits, Word};
use super::{Defaults, Kind};
use crate::json;
use crate::privacy::{Mobile, Otp, OtpRef, hide_otps, scrub};

/// `data` of a `refund_otp` as it was given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundOtpData<'a> {
    /// Eko's id of the failed transfer.
    #[serde(borrow)]
    #[schemars(with = "rules::Tid")]
    pub(super) tid: Option<&'a RawValue>,
    /// The API user's registered mobile number; else the worker's `EKO_INITIATOR_ID`.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::Mobile>")]
    pub(super) initiator_id: Option<&'a RawValue>,
}

/// `data` of a `refund` as it was given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RefundData<'a> {
    /// Eko's id of the failed transfer.
    #[serde(borrow)]
    #[schemars(with = "rules::Tid")]
    pub(super) tid: Option<&'a RawValue>,
    /// What the customer read out. As a string, where it begins with 0.
    #[serde(borrow)]
    #[schemars(with = "rules::Otp")]
    pub(super) otp: Option<&'a RawValue>,
    /// The `otp_ref_id` of the event that told of the OTP; counted in bytes.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::OtpRefId>")]
    pub(super) otp_ref_id: Option<&'a RawValue>,
    /// Eko's code of the retailer that the service is run for; else the worker's `EKO_USER_CODE`.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::UserCode>")]
    pub(super) user_code: Option<&'a RawValue>,
    /// The API user's registered mobile number; else the worker's `EKO_INITIATOR_ID`.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::Mobile>")]
    pub(super) initiator_id: Option<&'a RawValue>,
    /// Eko's fixed code, 80 unless given.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::FixedCode>")]
    pub(super) service_code: Option<&'a RawValue>,
    /// Eko's fixed state, 1 unless given.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::FixedCode>")]
    pub(super) state: Option<&'a RawValue>,
}

/// `data` of a `transfer_otp` as it was given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TransferOtpData<'a> {
    /// Eko's id of the recipient; no leading 0.
    #[serde(borrow)]
    #[schemars(with = "rules::RecipientId")]
    pub(super) recipient_id: Option<&'a RawValue>,
    /// Whole rupees.
    #[serde(borrow)]
    #[schemars(with = "rules::Amount")]
    pub(super) amount: Option<&'a RawValue>,
    /// The sender's mobile number.
    #[serde(borrow)]
    #[schemars(with = "rules::Mobile")]
    pub(super) customer_id: Option<&'a RawValue>,
    /// Eko's code of the retailer that the service is run for; else the worker's `EKO_USER_CODE`.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::UserCode>")]
    pub(super) user_code: Option<&'a RawValue>,
    /// The API user's registered mobile number; else the worker's `EKO_INITIATOR_ID`.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::Mobile>")]
    pub(super) initiator_id: Option<&'a RawValue>,
    /// Your reference at Eko; else one made from the command's id.
    #[serde(borrow)]
    #[schemars(with = "Option<rules::ClientRefId>")]
    pub(super) client_ref_id: Option<&'a RawValue>,
}

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
    match rules::ID.fits(&id) {
        true => Ok(id.into_owned()),
        false => Err(unlike(name, &rules::ID)),
    }
}

/// The attribute `correlationid`; AMQP carries at most 255 bytes of it.
pub(super) fn correlation_id(raw: Option<&RawValue>) -> Result<Option<String>, String> {
    let Some(raw) = raw else { return Ok(None) };
    let id = text("correlationid", raw)?;
    match rules::CORRELATION_ID.fits(&id) {
        true => Ok(Some(id.into_owned())),
        false => Err(too_long("correlationid", &rules::CORRELATION_ID)),
    }
}

/// An RFC 3339 time.
pub(super) fn timestamp(name: &str, raw: &RawValue) -> Result<Timestamp, String> {
    text(name, raw)?
        .parse()
        .map_err(|_| format!("{name}: must be an RFC 3339 time such as 2026-11-21T09:10:00Z"))
}

/// Digits given as a string or as a number that loses none of them.
fn digits<'a>(name: &str, raw: &'a RawValue) -> Result<Cow<'a, str>, String> {
    let given = match raw.get().as_bytes().first() {
        Some(b'"') => text(name, raw)?,
        Some(b'0'..=b'9') => Cow::Borrowed(raw.get()),
        _ => return Err(format!("{name}: must be digits, as a string or a number")),
    };
    if !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(given)
    } else {
        Err(format!("{name}: must be digits only"))
    }
}

fn sized_digits<'a>(name: &str, raw: &'a RawValue, rule: &Digits) -> Result<Cow<'a, str>, String> {
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

/// A whole JSON number.
fn whole(name: &str, raw: &RawValue) -> Result<u64, String> {
    serde_json::from_str(raw.get()).map_err(|_| format!("{name}: must be a whole number"))
}

/// Bytes of a normal form, as good as always: one that grows is copied.
const USUAL_LENGTH: usize = 512;

/// Reads the fields of one command's `data` and remembers them in one normal form.
pub(super) struct Fields {
    canonical: String,
}

impl Fields {
    pub(super) fn new(kind: Kind) -> Self {
        let mut canonical = String::with_capacity(USUAL_LENGTH);
        canonical.push_str(kind.as_str());
        Self { canonical }
    }

    /// Kind and given fields, in the order in which they were read.
    pub(super) fn canonical(self) -> String {
        self.canonical
    }

    // A length before each value keeps two different commands from one canonical text.
    fn note(&mut self, name: &str, value: &str) {
        let length = value.len().to_string();
        for part in ["\n", name, "=", &length, ":", value] {
            self.canonical.push_str(part);
        }
    }

    pub(super) fn tid(&mut self, raw: Option<&RawValue>) -> Result<String, String> {
        let tid = sized_digits("data.tid", required("data.tid", raw)?, &rules::TID)?;
        self.note("tid", &tid);
        Ok(tid.into_owned())
    }

    pub(super) fn otp(&mut self, raw: Option<&RawValue>) -> Result<Otp, String> {
        let otp = sized_digits("data.otp", required("data.otp", raw)?, &rules::OTP)?;
        self.note("otp", &otp);
        Ok(Otp::new(&otp))
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
        let code = match raw.get().starts_with('"') {
            true => text("data.user_code", raw)?,
            false => digits("data.user_code", raw)?,
        };
        if !is_user_code(&code) {
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
        let rule = || "data.amount: must be a whole number of rupees above 0".to_owned();
        let amount = whole("data.amount", required("data.amount", raw)?).map_err(|_| rule())?;
        if amount == 0 {
            return Err(rule());
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
        let code: u32 = whole(name, raw)
            .ok()
            .and_then(|code| code.try_into().ok())
            .ok_or_else(|| format!("data.{name}: must be a whole number below 4294967296"))?;
        self.note(name, &code.to_string());
        Ok(Some(code))
    }
}

/// Whether a user code can be sent: 1 to 32 letters, digits, `_` or `-`.
pub(crate) fn is_user_code(code: &str) -> bool {
    rules::USER_CODE.fits(code)
}

/// Whether a number can be an API user's mobile: 10 digits.
pub(crate) fn is_mobile(digits: &str) -> bool {
    rules::MOBILE.fits(digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}
