//! The envelope of Eko's answers, read leniently: numbers as strings, strings as numbers,
//! `tx_status` in either place; but no known field twice.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use eko_core::json;

/// An answer that is a JSON object with a `status`.
pub(super) struct Envelope<'a> {
    pub(super) status: i64,
    pub(super) response_status_id: Option<i64>,
    pub(super) response_type_id: Option<i64>,
    pub(super) message: Cow<'a, str>,
    /// Each `tx_status` that is there, at the top or in `data`; `None` is one that is no number.
    pub(super) tx_statuses: Vec<Option<i64>>,
    /// What `invalid_params` names, in lower case; `None` where it is empty or absent.
    pub(super) invalid_params: Option<String>,
    pub(super) data: Data<'a>,
}

/// The fields of `data` that Eko's documents name, as text; absent, null and empty are alike.
#[derive(Default)]
pub(super) struct Data<'a> {
    pub(super) tid: Cow<'a, str>,
    /// Empty also where it is no id.
    pub(super) refund_tid: Cow<'a, str>,
    pub(super) refunded_amount: Cow<'a, str>,
    pub(super) amount: Cow<'a, str>,
    pub(super) fee: Cow<'a, str>,
    pub(super) tds: Cow<'a, str>,
    pub(super) commission_reverse: Cow<'a, str>,
    pub(super) balance: Cow<'a, str>,
    pub(super) gst: Cow<'a, str>,
    pub(super) currency: Cow<'a, str>,
    pub(super) timestamp: Cow<'a, str>,
    pub(super) bank_ref_num: Cow<'a, str>,
    pub(super) client_ref_id: Cow<'a, str>,
    pub(super) otp_ref_id: Cow<'a, str>,
    pub(super) mobile: Cow<'a, str>,
    /// Staging shows the OTP itself; it is read only to be kept out of everything else.
    pub(super) otp: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RawEnvelope<'a> {
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    response_status_id: Option<&'a RawValue>,
    #[serde(borrow)]
    response_type_id: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    tx_status: Option<&'a RawValue>,
    #[serde(borrow)]
    invalid_params: Option<&'a RawValue>,
    #[serde(borrow)]
    invalid_parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct RawData<'a> {
    #[serde(borrow)]
    tx_status: Option<&'a RawValue>,
    #[serde(borrow)]
    invalid_params: Option<&'a RawValue>,
    #[serde(borrow)]
    tid: Option<&'a RawValue>,
    #[serde(borrow)]
    refund_tid: Option<&'a RawValue>,
    #[serde(borrow)]
    refunded_amount: Option<&'a RawValue>,
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    #[serde(borrow)]
    fee: Option<&'a RawValue>,
    #[serde(borrow)]
    tds: Option<&'a RawValue>,
    #[serde(borrow)]
    commission_reverse: Option<&'a RawValue>,
    #[serde(borrow)]
    balance: Option<&'a RawValue>,
    #[serde(borrow)]
    gst: Option<&'a RawValue>,
    #[serde(borrow)]
    currency: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    bank_ref_num: Option<&'a RawValue>,
    #[serde(borrow)]
    client_ref_id: Option<&'a RawValue>,
    #[serde(borrow)]
    otp_ref_id: Option<&'a RawValue>,
    #[serde(borrow)]
    mobile: Option<&'a RawValue>,
    #[serde(borrow)]
    otp: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Reads a body; `None` where it is no JSON object, has no readable `status`, or has a
    /// known field twice.
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let body = std::str::from_utf8(body).ok()?;
        // Some servers on Windows put a byte order mark first; JSON does not know it.
        let raw: RawEnvelope<'a> = object(body.trim_start_matches('\u{feff}'))?;
        let data: RawData<'a> = match raw.data.map(RawValue::get) {
            Some(text) if text.starts_with('{') => object(text)?,
            _ => RawData::default(),
        };
        let invalid = [raw.invalid_params, raw.invalid_parameters, data.invalid_params];
        Some(Self {
            status: number(raw.status?)?,
            response_status_id: raw.response_status_id.and_then(number),
            response_type_id: raw.response_type_id.and_then(number),
            message: text(raw.message),
            tx_statuses: [raw.tx_status, data.tx_status]
                .into_iter()
                .flatten()
                .filter(|raw| !is_empty(raw))
                .map(number)
                .collect(),
            invalid_params: invalid
                .into_iter()
                .flatten()
                .find(|raw| !is_empty(raw))
                .map(|raw| raw.get().to_lowercase()),
            data: Data::from(&data),
        })
    }
}

impl<'a> From<&RawData<'a>> for Data<'a> {
    fn from(raw: &RawData<'a>) -> Self {
        Self {
            tid: text(raw.tid),
            refund_tid: Some(text(raw.refund_tid)).filter(|id| is_id(id)).unwrap_or_default(),
            refunded_amount: text(raw.refunded_amount),
            amount: text(raw.amount),
            fee: text(raw.fee),
            tds: text(raw.tds),
            commission_reverse: text(raw.commission_reverse),
            balance: text(raw.balance),
            gst: text(raw.gst),
            currency: text(raw.currency),
            timestamp: text(raw.timestamp),
            bank_ref_num: text(raw.bank_ref_num),
            client_ref_id: text(raw.client_ref_id),
            otp_ref_id: text(raw.otp_ref_id),
            mobile: text(raw.mobile),
            otp: text(raw.otp),
        }
    }
}

/// Whether a body that is no envelope may be one that cannot be read: JSON, or the beginning of it, and
/// not an object without any field of Eko's.
pub(super) fn may_be_envelope(body: &[u8]) -> bool {
    const FIELDS: [&str; 6] =
        ["status", "response_status_id", "response_type_id", "tx_status", "invalid_params", "data"];
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    match text.as_bytes().first() {
        Some(b'{') => match serde_json::from_str::<BTreeMap<String, IgnoredAny>>(text) {
            Ok(fields) => FIELDS.iter().any(|field| fields.contains_key(*field)),
            Err(_) => true,
        },
        Some(b'[') => true,
        Some(_) | None => false,
    }
}

/// Whether a text is the id of a refund or a transaction: digits, and not zero. The rest of a
/// template (`{2}`) is none.
pub(super) fn is_id(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.bytes().any(|byte| byte != b'0')
}

/// A JSON object; serde would take an array for a struct as well.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    text.trim_start().starts_with('{').then(|| serde_json::from_str(text).ok()).flatten()
}

/// A number, or a string that holds one.
fn number(raw: &RawValue) -> Option<i64> {
    json::string(raw).as_deref().unwrap_or_else(|| raw.get()).trim().parse().ok()
}

/// A string, or a number's digits; empty for anything else.
fn text(raw: Option<&RawValue>) -> Cow<'_, str> {
    let Some(raw) = raw else { return Cow::default() };
    match json::string(raw) {
        Some(Cow::Borrowed(text)) => Cow::Borrowed(text.trim()),
        Some(Cow::Owned(text)) => Cow::Owned(text.trim().to_owned()),
        None => match raw.get().as_bytes().first() {
            Some(b'-' | b'0'..=b'9') => Cow::Borrowed(raw.get()),
            _ => Cow::default(),
        },
    }
}

fn is_empty(raw: &RawValue) -> bool {
    let squeezed: String = raw.get().split_whitespace().collect();
    matches!(squeezed.as_str(), "null" | "{}" | "[]" | "\"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let read = |body: &str| Envelope::read(body.as_bytes()).map(|envelope| envelope.status);
        assert_eq!(read("\u{feff}{\"status\":0}"), Some(0));
        assert_eq!(read("\u{feff} \r\n{\"status\":302}"), Some(302));
        assert_eq!(read("\u{feff}"), None);
        assert_eq!(read("{\u{feff}\"status\":0}"), None);
    }

    #[test]
    fn a_page_and_json_of_somebody_else_are_no_envelope_that_cannot_be_read() {
        for body in [
            "",
            " \n",
            "<html>maintenance</html>",
            "\u{feff}<!doctype html>",
            "Service unavailable",
            "\"down\"",
            "{}",
            r#"{"error":"maintenance","retry":5}"#,
        ] {
            assert!(!may_be_envelope(body.as_bytes()), "{body}");
        }
        for body in [
            r#"{"data":{"refund_tid":"1"}}"#,
            r#"{"status":"done"}"#,
            r#"{"status":0,"status":1}"#,
            r#"[{"status":0}]"#,
            r#"{"message":"cut of"#,
        ] {
            assert!(may_be_envelope(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn an_id_has_digits_and_is_not_zero() {
        assert!(is_id("2147591637") && is_id("007"));
        for text in ["", "0", "000", "{2}", "2.1E9", "-5", "12 3"] {
            assert!(!is_id(text), "{text}");
        }
    }
}
