//! Eko's normal answers, after the samples of its documents.

use serde_json::{Value, json};

/// An answer and how it is brought.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) http: u16,
    pub(crate) content_type: &'static str,
    pub(crate) retry_after: Option<String>,
    /// Answer with a Location header that names the URL of the request.
    pub(crate) redirects: bool,
    pub(crate) body: Vec<u8>,
    pub(crate) delivery: Delivery,
}

/// How an answer is brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Whole,
    /// The connection ends before the promised length.
    Cut,
    /// One byte at a time.
    Slow,
    /// The connection is reset instead.
    Reset,
    /// Nothing comes, and the connection stays.
    Never,
}

impl Reply {
    /// An answer of any content.
    pub(crate) fn new(http: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            http,
            content_type,
            retry_after: None,
            redirects: false,
            body: body.into(),
            delivery: Delivery::Whole,
        }
    }

    /// A JSON answer.
    pub(crate) fn json(http: u16, body: &Value) -> Self {
        Self::new(http, "application/json", body.to_string())
    }

    /// No answer, in the way that `delivery` says.
    pub(crate) fn nothing(delivery: Delivery) -> Self {
        Self { delivery, ..Self::new(200, "application/json", "") }
    }
}

/// The envelope of a success.
pub(crate) fn envelope(status: i64, rs: i64, ty: i64, message: &str, data: &Value) -> Value {
    json!({"response_status_id": rs, "data": data, "response_type_id": ty, "message": message,
        "status": status})
}

/// A refusal that carries Eko's number as `status`.
pub(crate) fn refusal(code: i64, message: &str) -> Value {
    json!({"response_status_id": 1, "response_type_id": code, "message": message, "status": code})
}

/// A refusal that only its text explains.
pub(crate) fn refusal_by_text(message: &str) -> Value {
    json!({"response_status_id": -1, "response_type_id": -1, "message": message, "status": 1})
}

/// The fields of a wrong request, each with its reason.
pub(crate) fn invalid_params(problems: &[(String, &'static str)]) -> Value {
    let mut body = refusal(461, "Invalid params");
    body["invalid_params"] =
        problems.iter().map(|(name, why)| (name.clone(), json!(why))).collect();
    body
}

/// An authentication error.
pub(crate) fn unauthorized(code: i64, message: &str) -> Value {
    json!({"message": message, "status": code, "response_type_id": code, "response_status_id": 1})
}

/// A refund was executed.
pub(crate) fn refunded(tid: &str, refund_tid: u64) -> Value {
    let data = json!({"refund_tid": refund_tid.to_string(), "amount": "5000.00", "tds": "7.1",
        "balance": "2.22263731286E9", "fee": "50.0", "currency": "INR",
        "commission_reverse": "28.38", "tid": tid, "timestamp": "2018-10-30T12:00:14.058Z",
        "refunded_amount": "5050.00"});
    envelope(0, 0, 74, "Refund done", &data)
}

/// The OTP of a refund, or of a transfer from a wallet, was sent.
pub(crate) fn otp_sent(otp_ref_id: &str) -> Value {
    envelope(2133, 1, 2133, "Send OTP", &json!({"otp_ref_id": otp_ref_id}))
}

/// The OTP of a transfer was sent.
pub(crate) fn transfer_otp_sent(otp_ref_id: &str, customer_id: &str) -> Value {
    let last_four = customer_id.get(customer_id.len().saturating_sub(4)..).unwrap_or("");
    let data = json!({"otp_ref_id": otp_ref_id, "mobile": format!("XXXXXX{last_four}")});
    envelope(0, 0, 1388, "OTP sent successfully", &data)
}

/// What a transaction is at.
pub(crate) fn found(tid: &str, tx_status: u8) -> Value {
    let data = json!({"tid": tid, "tx_status": tx_status.to_string(),
        "txstatus_desc": description(tx_status), "amount": "5000.00", "fee": "50.0",
        "currency": "INR"});
    envelope(0, 0, 1472, "Sucess! Enquiry success.", &data)
}

/// No such transaction; where an inquiry is by another reference.
pub(crate) fn not_found() -> Value {
    let mut body = refusal(69, "failed!inquired.tx.not.found");
    body["response_type_id"] = json!(-1);
    body["invalid_params"] = json!({"tid": "not found"});
    body
}

/// Eko's words for a `tx_status`.
pub(crate) fn description(tx_status: u8) -> &'static str {
    match tx_status {
        0 => "Success",
        1 => "Fail",
        2 => "Initiated",
        3 => "Refund Pending",
        4 => "Refunded",
        5 => "Hold (Transaction Inquiry Needed)",
        6 => "Response Awaited",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_are_the_documented_samples() {
        let refund: Value = serde_json::from_str(
            r#"{"response_status_id":0,"data":{"refund_tid":"2147591637","amount":"5000.00",
            "tds":"7.1","balance":"2.22263731286E9","fee":"50.0","currency":"INR",
            "commission_reverse":"28.38","tid":"13192443","timestamp":"2018-10-30T12:00:14.058Z",
            "refunded_amount":"5050.00"},"response_type_id":74,"message":"Refund done","status":0}"#,
        )
        .unwrap();
        assert_eq!(refunded("13192443", 2_147_591_637), refund);
        let otp: Value = serde_json::from_str(
            r#"{"response_status_id":1,"data":{"otp_ref_id":"zCIS/="},"response_type_id":2133,
            "message":"Send OTP","status":2133}"#,
        )
        .unwrap();
        assert_eq!(otp_sent("zCIS/="), otp);
        let transfer: Value = serde_json::from_str(
            r#"{"status":0,"response_status_id":0,"message":"OTP sent successfully",
            "response_type_id":1388,
            "data":{"otp_ref_id":"TXNOTP20240101001","mobile":"XXXXXX6789"}}"#,
        )
        .unwrap();
        assert_eq!(transfer_otp_sent("TXNOTP20240101001", "9123456789"), transfer);
    }
}
