//! Bytes → a command: the attributes, then the data of its kind.

use secrecy::SecretString;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::attributes::{self, Attributes};
use super::data::{RefundData, RefundOtpData, TransferOtpData};
use super::fields::{self, Fields, Read};
use super::{Command, Defaults, Invalid, Kind, Parsed, Refund, RefundOtp, Request, TransferOtp};
use crate::outcome::{Code, Problem};

/// Largest message that is parsed, in bytes; a command has some hundred.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// Reads a whole message. `correlation_id` is its AMQP property, used where the attribute is
/// absent.
pub fn parse(body: &[u8], correlation_id: Option<&str>, defaults: &Defaults) -> Parsed {
    let attributes = match read_attributes(body) {
        Ok(attributes) => attributes,
        Err((kind, problem)) => {
            let invalid = Invalid {
                kind,
                id: None,
                correlation_id: correlation_id.map(str::to_owned),
                problem,
            };
            return Parsed {
                command: Err(invalid),
                traceparent: None,
                tracestate: None,
                time: None,
            };
        }
    };
    Parsed {
        command: read_command(&attributes, correlation_id, defaults),
        traceparent: attributes.traceparent.and_then(fields::lenient_text),
        tracestate: attributes.tracestate.and_then(fields::lenient_text),
        time: attributes.time.and_then(fields::lenient_text).and_then(|text| text.parse().ok()),
    }
}

fn read_attributes(body: &[u8]) -> Result<Attributes<'_>, (Option<Kind>, Problem)> {
    let malformed = |why: String| (None, Problem::new(Code::MalformedJson, why));
    if body.len() > MAX_BODY {
        let why = format!("the message has {} bytes; at most {MAX_BODY} are read", body.len());
        return Err((None, Problem::new(Code::InvalidCommand, why)));
    }
    if let Some(what) = not_plain_json(body) {
        return Err(malformed(what.to_owned()));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| malformed(format!("the message is not UTF-8: {error}")))?;
    let whole: &RawValue = serde_json::from_str(text)
        .map_err(|error| malformed(format!("the message is not JSON: {error}")))?;
    if whole.get().starts_with('[') {
        let why =
            "the message is JSON, but not an object: it is an array; send one command a message";
        return Err(malformed(why.to_owned()));
    }
    if !whole.get().starts_with('{') {
        return Err(malformed("the message is JSON, but not an object".to_owned()));
    }
    serde_json::from_str(text).map_err(|error| {
        let problem = Problem::new(Code::InvalidCommand, fields::sentence(&error));
        (last_type(text), problem)
    })
}

/// What a body is that is no text of JSON, where its first bytes tell.
fn not_plain_json(body: &[u8]) -> Option<&'static str> {
    match body {
        [] => Some("the message is empty"),
        [0xEF, 0xBB, 0xBF, ..] => Some(
            "the message begins with a byte order mark: send UTF-8 without one (in Python utf-8, \
             not utf-8-sig)",
        ),
        [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] => {
            Some("the message is not UTF-8: it begins as UTF-16 does; send UTF-8")
        }
        [0x1F, 0x8B, ..] => {
            Some("the message is compressed (gzip), which is not supported: send plain JSON")
        }
        [0x28, 0xB5, 0x2F, 0xFD, ..] => {
            Some("the message is compressed (zstd), which is not supported: send plain JSON")
        }
        _ => None,
    }
}

/// Whether a message has nothing of an envelope: in the binary mode of CloudEvents that is in
/// the headers, and the body is `data` alone.
fn is_bare_data(attributes: &Attributes<'_>) -> bool {
    let Attributes { id, message_type, data, .. } = attributes;
    id.is_none() && message_type.is_none() && data.is_none()
}

/// The type of a message whose attributes repeat: good enough to address its event.
fn last_type(text: &str) -> Option<Kind> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    Kind::from_type(value.get("type")?.as_str()?)
}

fn read_command(
    attributes: &Attributes<'_>,
    correlation_id: Option<&str>,
    defaults: &Defaults,
) -> Result<Command, Invalid> {
    let kind = read_kind(attributes.message_type);
    let id = fields::required("id", attributes.id).and_then(|raw| fields::id("id", raw));
    let correlation = fields::correlation_id(attributes.correlationid);
    let invalid = |message: String| Invalid {
        kind: kind.as_ref().ok().copied(),
        id: id.as_ref().ok().cloned(),
        correlation_id: correlation
            .as_ref()
            .ok()
            .cloned()
            .flatten()
            .or_else(|| correlation_id.map(str::to_owned)),
        problem: Problem::new(Code::InvalidCommand, message),
    };
    if is_bare_data(attributes) {
        let why = "the message has neither id, type nor data: binary mode is not supported; send \
                   structured mode, one JSON object with id, type and data";
        return Err(invalid(why.to_owned()));
    }
    let id = id.clone().map_err(&invalid)?;
    let kind = kind.clone().map_err(&invalid)?;
    if let Some(name) = &attributes.misnamed {
        return Err(invalid(attributes::misnamed(name)));
    }
    let given = correlation.clone().map_err(&invalid)?;
    let expiry = fields::deadline("expirytime", attributes.expirytime).map_err(&invalid)?;
    let data = fields::required("data", attributes.data).map_err(&invalid)?;
    let Read { request, canonical, previous_canonical } =
        read_request(kind, &id, data, defaults).map_err(&invalid)?;
    Ok(Command {
        id,
        has_own_account: request.has_own_account(defaults),
        request,
        expiry,
        correlation_id: given.or_else(|| correlation_id.map(str::to_owned)),
        canonical: SecretString::from(canonical),
        previous_canonical: previous_canonical.map(SecretString::from),
    })
}

fn read_kind(raw: Option<&RawValue>) -> Result<Kind, String> {
    let name = fields::text("type", fields::required("type", raw)?)?;
    Kind::from_type(&name).ok_or_else(|| {
        "type: is none of eko.refund_otp.request, eko.refund.request, eko.transfer_otp.request"
            .to_owned()
    })
}

fn read_request(
    kind: Kind,
    id: &str,
    data: &RawValue,
    defaults: &Defaults,
) -> Result<Read, String> {
    match kind {
        Kind::RefundOtp => {
            let mut fields = Fields::new(kind);
            let given: RefundOtpData<'_> = fields::object(data)?;
            let tid = fields.tid(given.tid)?;
            let initiator_id = fields.initiator_id(given.initiator_id, defaults)?;
            Ok(fields.read(Request::RefundOtp(RefundOtp { tid, initiator_id })))
        }
        Kind::Refund => read_refund(data, defaults),
        Kind::TransferOtp => read_transfer_otp(id, data, defaults),
    }
}

fn read_refund(data: &RawValue, defaults: &Defaults) -> Result<Read, String> {
    let mut fields = Fields::new(Kind::Refund);
    let given: RefundData<'_> = fields::object(data)?;
    let request = Refund {
        tid: fields.tid(given.tid)?,
        otp: fields.given_otp(given.otp, given.otp_sealed)?,
        otp_ref_id: fields.otp_ref_id(given.otp_ref_id)?,
        user_code: fields.user_code(given.user_code, defaults)?,
        initiator_id: fields.initiator_id(given.initiator_id, defaults)?,
        service_code: fields.fixed_code("service_code", given.service_code)?.unwrap_or(80),
        state: fields.fixed_code("state", given.state)?.unwrap_or(1),
    };
    Ok(fields.read(Request::Refund(request)))
}

fn read_transfer_otp(id: &str, data: &RawValue, defaults: &Defaults) -> Result<Read, String> {
    let mut fields = Fields::new(Kind::TransferOtp);
    let given: TransferOtpData<'_> = fields::object(data)?;
    let recipient_id = fields.recipient_id(given.recipient_id)?;
    let amount = fields.amount(given.amount)?;
    let customer_id = fields.customer_id(given.customer_id)?;
    let user_code = fields.user_code(given.user_code, defaults)?;
    let initiator_id = fields.initiator_id(given.initiator_id, defaults)?;
    let client_ref_id = fields.client_ref_id(given.client_ref_id)?;
    // After the fields of earlier versions, whose commands keep their normal form.
    let (rail, wallet) = fields.rail(&given)?;
    let request = TransferOtp {
        recipient_id,
        amount,
        customer_id,
        user_code,
        initiator_id,
        client_ref_id: client_ref_id.unwrap_or_else(|| derived_client_ref_id(id)),
        rail,
        wallet,
    };
    Ok(fields.read(Request::TransferOtp(request)))
}

/// A reference that every re-send of the command shares: 20 hex digits of the id's SHA-256,
/// since Eko takes at most 20 characters and an id may have 64.
fn derived_client_ref_id(id: &str) -> String {
    Sha256::digest(id.as_bytes()).iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}
