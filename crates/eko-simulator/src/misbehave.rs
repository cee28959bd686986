//! The answers of a misbehaving Eko.

use serde_json::{Value, json};

use crate::answers::{self, Delivery, Reply};
use crate::call::Endpoint;
use crate::effect::Normal;
use crate::faults::{Act, Edition, Fault, Form, Garble, Way};
use crate::plan::Details;
use crate::signature::Refusal;

/// The call that a fault befalls.
pub(crate) struct Scene<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) key: &'a str,
    pub(crate) otp: &'a str,
}

/// Whether an answer tells a success, so that the call must have had its effect.
pub(crate) fn is_form_of_success(act: Act) -> bool {
    match act {
        Act::Form(form) => !matches!(
            form,
            Form::Claimed | Form::ClaimedNull | Form::InvalidParams | Form::TidInvalid
        ),
        // Where the transaction is not pending a refund is answered as ever.
        Act::Pending(..) => true,
        _ => false,
    }
}

/// The answer of a fault; `normal` is what the call did, where it took effect.
pub(crate) fn reply(
    fault: Fault,
    details: &Details,
    scene: &Scene<'_>,
    normal: Option<&Normal>,
    is_late: bool,
) -> Reply {
    match fault.row.act {
        Act::Refuse(code, message) => Reply::json(200, &refusal(fault, code, message, scene)),
        Act::RefuseText(message) => Reply::json(200, &answers::refusal_by_text(message)),
        Act::InProgress => Reply::json(200, &in_progress()),
        Act::Auth(http, code, message) => Reply::json(http, &answers::unauthorized(code, message)),
        Act::Http(http) | Act::Late(Way::Http(http)) | Act::Held(Way::Http(http)) => {
            gateway(http, details)
        }
        Act::Late(Way::Copy) | Act::Held(Way::Copy) => Reply::json(401, &used_before()),
        Act::Garble(garble) => garbled(garble, normal),
        Act::Reset | Act::Late(Way::Reset) | Act::Held(Way::Reset) => {
            Reply::nothing(Delivery::Reset)
        }
        Act::Silence | Act::Late(Way::Nothing) | Act::Held(Way::Nothing) => {
            Reply::nothing(Delivery::Never)
        }
        Act::Pending(first, _) if is_late => Reply::json(200, &pending(scene.key, first)),
        Act::Pending(..) => Reply::json(200, &body_of(normal)),
        Act::Form(form) => Reply::json(200, &formed(form, scene, normal)),
    }
}

/// The normal answer or, where the call had no effect, a refusal that says so.
fn body_of(normal: Option<&Normal>) -> Value {
    normal.map_or_else(
        || answers::refusal(544, "Transaction not processed, bank not available"),
        |normal| normal.body.clone(),
    )
}

fn refusal(fault: Fault, code: i64, message: &str, scene: &Scene<'_>) -> Value {
    let mut body = answers::refusal(code, message);
    let field = match (code, scene.endpoint) {
        (302, _) => Some("otp"),
        (463, Endpoint::TransferOtp) => Some("customer_id"),
        (461, Endpoint::TransferOtp) => Some("recipient_id"),
        (461, _) => Some("initiator_id"),
        (69, _) => Some("tid"),
        _ => None,
    };
    if let Some(field) = field {
        body["invalid_params"] = json!({field: message});
    }
    if fault.edition == Edition::Rs {
        body["status"] = json!(1);
        body["response_status_id"] = json!(code);
    } else if matches!(code, 69 | 463) {
        body["response_type_id"] = json!(-1);
    }
    body
}

fn used_before() -> Value {
    answers::unauthorized(Refusal::Timestamp.code(), Refusal::Timestamp.message())
}

fn in_progress() -> Value {
    json!({"status": 1, "response_status_id": -2, "response_type_id": -2,
        "message": "Another transaction in progress for the user"})
}

fn gateway(http: u16, details: &Details) -> Reply {
    let html = |title: &str| format!("<html><head><title>{title}</title></head></html>");
    let mut reply = match http {
        400 | 409 | 422 => Reply::json(http, &json!({"message": "Bad request"})),
        401 | 403 => Reply::new(http, "text/plain", "Authentication failed"),
        404 => Reply::new(http, "text/plain", "No Mapping Rule matched"),
        429 => Reply::new(http, "text/plain", "Limits exceeded"),
        500 => Reply::json(http, &json!({"message": "Internal Server Error"})),
        http => Reply::new(http, "text/html", html(&format!("{http}"))),
    };
    reply.redirects = matches!(http, 301 | 302 | 307);
    reply.retry_after =
        details.retry_after.clone().or_else(|| (http == 429).then(|| "2".to_owned()));
    reply
}

fn garbled(garble: Garble, normal: Option<&Normal>) -> Reply {
    let mut value = body_of(normal);
    let body = value.to_string();
    let json = |bytes: Vec<u8>| Reply::new(200, "application/json", bytes);
    match garble {
        Garble::Html => {
            let page = "<html><body><h1>Service temporarily unavailable</h1></body></html>";
            Reply::new(200, "text/html", page)
        }
        Garble::Empty => json(Vec::new()),
        Garble::Truncated => Reply { delivery: Delivery::Cut, ..json(body.into()) },
        Garble::CutJson => json(body.as_bytes()[..body.len() / 2].to_vec()),
        Garble::Huge => {
            value["padding"] = json!("x".repeat(2 << 20));
            json(value.to_string().into())
        }
        Garble::Slow => Reply { delivery: Delivery::Slow, ..json(body.into()) },
        Garble::NotObject => json(format!("[{body}]").into()),
        Garble::NoStatus => {
            let fields = value.as_object_mut().expect("every answer is an object");
            fields.remove("status");
            json(value.to_string().into())
        }
        Garble::DuplicateKeys => json(
            br#"{"status":0,"response_status_id":0,"message":"Refund done","status":302}"#.to_vec(),
        ),
        Garble::NotUtf8 => json(b"{\"status\":0,\"message\":\"\xff\xfe\"}".to_vec()),
    }
}

fn pending(tid: &str, tx_status: u8) -> Value {
    let words = answers::description(tx_status);
    let data = json!({"tid": tid, "tx_status": tx_status.to_string(), "txstatus_desc": words});
    let rs = i64::from(if tx_status == 5 { 5 } else { 2 });
    let mut body = answers::envelope(0, rs, 74, words, &data);
    body["tx_status"] = json!(tx_status.to_string());
    body["txstatus_desc"] = json!(words);
    body
}

fn formed(form: Form, scene: &Scene<'_>, normal: Option<&Normal>) -> Value {
    let mut body = body_of(normal);
    match form {
        Form::Claimed => return answers::envelope(0, 0, 74, "Refund done", &json!({})),
        Form::ClaimedNull => return answers::envelope(0, 0, 74, "Refund done", &Value::Null),
        Form::InvalidParams => return zero_with_invalid_params(scene),
        Form::TidInvalid => {
            let mut body = unconfirmed();
            body["invalid_params"] = json!({"tid": "Invalid_tid_Length"});
            return body;
        }
        _ if normal.is_some_and(|normal| !normal.effective) => return body,
        Form::Qr => return qr(scene, &body),
        Form::RsMinusOne => body["response_status_id"] = json!(-1),
        Form::Status2133 => {
            for (field, number) in
                [("status", 2133), ("response_status_id", 1), ("response_type_id", 2133)]
            {
                body[field] = json!(number);
            }
        }
        Form::OtherTypes => swap_types(&mut body),
        Form::ExtraFields => {
            body["new_field"] = json!({"nested": [1, null]});
            body["data"]["new_field"] = json!("");
            body["message"] = json!("Refund done {2} {3}");
        }
        Form::NoOtpRefId => return unconfirmed(),
        Form::ShowsOtp => body["data"]["otp"] = json!("123456"),
        Form::Disagree => body["tx_status"] = json!(other_tx(&body)),
        Form::OtherTid => body["data"]["tid"] = json!("13192443000"),
        Form::UnknownTx => body["data"]["tx_status"] = json!("9"),
        Form::NoTx => {
            let data = body["data"].as_object_mut().expect("an inquiry has data");
            data.remove("tx_status");
            data.remove("txstatus_desc");
        }
    }
    body
}

fn zero_with_invalid_params(scene: &Scene<'_>) -> Value {
    let data = json!({"tid": "", "otp": scene.otp});
    let mut body = answers::envelope(0, -1, 74, "Wrong TID or OTP {2} {3}", &data);
    let field = if scene.endpoint == Endpoint::TransferOtp { "customer_id" } else { "otp" };
    body["invalid_params"] = json!({field: "Wrong TID or OTP"});
    body
}

/// Success without an `otp_ref_id`, as production gives it for old transactions.
fn unconfirmed() -> Value {
    let data = json!({"tid": "", "otp_ref_id": ""});
    let message = "OTP for failed transaction has been sent {2} {3}";
    let mut body = answers::envelope(0, -1, 1388, message, &data);
    body["invalid_params"] = Value::Null;
    body
}

fn qr(scene: &Scene<'_>, normal: &Value) -> Value {
    let tid: u64 = scene.key.parse().unwrap_or(0);
    match scene.endpoint {
        Endpoint::Refund => {
            let refund_tid: u64 =
                normal["data"]["refund_tid"].as_str().and_then(|t| t.parse().ok()).unwrap_or(0);
            let data = json!({"tid": refund_tid, "amount": 5000, "tx_status": "4",
                "txstatus_desc": "Refunded", "bank_ref_num": "430212345678", "gst": "9.0",
                "client_ref_id": "QR-1"});
            let mut body = answers::envelope(0, 0, 74, "Refund initiated successfully.", &data);
            body["tx_status"] = json!("4");
            body
        }
        Endpoint::RefundOtp => {
            let data = json!({"otp_ref_id": normal["data"]["otp_ref_id"], "tid": tid});
            answers::envelope(0, 0, 1388, "OTP sent successfully", &data)
        }
        Endpoint::TransferOtp => {
            answers::envelope(0, 0, 2133, "Send OTP", &json!({"otp_ref_id": "666902416"}))
        }
        Endpoint::Inquiry => {
            let tx_status = &normal["data"]["tx_status"];
            let data = json!({"tid": tid, "tx_status": tx_status});
            let mut body = answers::envelope(0, 0, 1388, "Success", &data);
            body["tx_status"] = tx_status.clone();
            body
        }
    }
}

/// A `tx_status` that is not the one in the data.
fn other_tx(body: &Value) -> &'static str {
    if body["data"]["tx_status"] == "4" { "3" } else { "4" }
}

/// Makes strings of numbers, and numbers of strings of digits that stay the same as numbers.
fn swap_types(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(swap_types),
        Value::Number(number) => *value = json!(number.to_string()),
        Value::String(text) => {
            let keeps = text.parse::<u64>().is_ok_and(|number| number.to_string() == *text);
            if keeps {
                *value = json!(text.parse::<u64>().unwrap_or(0));
            }
        }
        _ => {}
    }
}
