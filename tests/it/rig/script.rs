//! Answers of Eko for the stub's scripts, as its documents show them.

use serde_json::{Value, json};

use super::stub::Answer;

/// A success of Initiate Refund, as in Eko's example.
pub(crate) fn refunded(tid: &str) -> Answer {
    Answer::Json(200, refund_body(tid))
}

/// The body of [`refunded`].
pub(crate) fn refund_body(tid: &str) -> Value {
    json!({
        "response_status_id": 0,
        "data": {
            "refund_tid": "2147591637", "amount": "5000.00", "tds": "7.1",
            "balance": "2.22263731286E9", "fee": "50.0", "currency": "INR",
            "commission_reverse": "28.38", "tid": tid,
            "timestamp": "2018-10-30T12:00:14.058Z", "refunded_amount": "5050.00",
        },
        "response_type_id": 74, "message": "Refund done", "status": 0,
    })
}

/// A success of Get Refund OTP, as in Eko's example, with this reference.
pub(crate) fn otp_sent(reference: &str) -> Answer {
    Answer::Json(
        200,
        json!({
            "response_status_id": 1, "data": { "otp_ref_id": reference },
            "response_type_id": 2133, "message": "Send OTP", "status": 2133,
        }),
    )
}

/// A success of Send Transaction OTP, as in Eko's example.
pub(crate) fn transfer_otp_sent() -> Answer {
    Answer::Json(
        200,
        json!({
            "status": 0, "response_status_id": 0, "message": "OTP sent successfully",
            "response_type_id": 1388,
            "data": { "otp_ref_id": "TXNOTP20240101001", "mobile": "XXXXXX6789" },
        }),
    )
}

/// What an inquiry finds.
pub(crate) fn found(tid: &str, tx_status: u8) -> Answer {
    Answer::Json(
        200,
        json!({
            "status": 0, "response_status_id": 0, "message": "Sucess! Enquiry success.",
            "response_type_id": 1472, "data": { "tx_status": tx_status.to_string(), "tid": tid },
        }),
    )
}

/// An answer with these numbers, and nothing else of note.
pub(crate) fn said(status: i64, response_status_id: i64, message: &str) -> Answer {
    Answer::Json(200, said_body(status, response_status_id, message))
}

/// The body of [`said`].
pub(crate) fn said_body(status: i64, response_status_id: i64, message: &str) -> Value {
    json!({
        "status": status, "response_status_id": response_status_id,
        "response_type_id": -1, "message": message,
    })
}

/// An HTTP status with a text of no use.
pub(crate) fn http(status: u16) -> Answer {
    Answer::Text(status, "content-type: text/html\r\n", "<html>no</html>".to_owned())
}

/// The answers to the inquiries of `check`: two new timestamps are taken, one that is too old is refused
/// however often it is tried, and one that is just young enough is taken.
pub(crate) fn checked() -> Vec<Answer> {
    let too_old = || {
        let message = "secret-key-timestamp is expired or was used before";
        Answer::Json(401, json!({ "message": message, "status": 2485 }))
    };
    let taken = || found("1", 0);
    vec![taken(), taken(), too_old(), too_old(), too_old(), taken()]
}
