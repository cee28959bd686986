//! What must hold for any body of an answer.

use serde_json::Value;

use eko_client::answer::{HttpAnswer, reading, verdict};
use eko_core::command::{Defaults, Kind, parse};
use eko_core::privacy::Mobile;
use eko_core::verdict::{Reading, Verdict};

const COMMANDS: [&str; 3] = [
    r#"{"id":"a","type":"eko.refund.request","data":{"tid":"13192443","otp":"123456"}}"#,
    r#"{"id":"a","type":"eko.refund_otp.request","data":{"tid":"13192443"}}"#,
    r#"{"id":"a","type":"eko.transfer_otp.request","data":{"recipient_id":1,"amount":1,"customer_id":"9123456789"}}"#,
];

/// Any answer has a verdict and a reading, and a refund is done only with evidence.
///
/// A body is read as every endpoint's answer, under every class of HTTP status.
pub fn answer(body: &[u8]) {
    for status in [200, 302, 400, 401, 403, 404, 429, 503] {
        let http = HttpAnswer { status, after: None, body: Some(body.to_vec()) };
        for text in COMMANDS {
            let defaults = Defaults {
                initiator_id: Some(Mobile::new("9962981729")),
                user_code: Some("20810200".to_owned()),
            };
            let Ok(command) = parse(text.as_bytes(), None, &defaults).command else { return };
            let verdict = verdict(&command, &http).meaning;
            let is_not_now = matches!(verdict, Verdict::NotNow { .. });
            assert!(command.kind() != Kind::Refund || !is_not_now, "an inquiry comes first");
            let Verdict::Done(receipt, _) = verdict else { continue };
            assert_eq!(status, 200);
            assert_eq!(receipt.get("tid").is_some(), command.tid().is_some());
            let is_proven = command.kind() != Kind::Refund || tells_of_a_refund(body);
            assert!(is_proven, "{}", String::from_utf8_lossy(body));
        }
        if let Reading::Refunded(..) = reading("13192443", &[], &http).meaning {
            assert!(status == 200 && tells_of_a_refund(body));
        }
    }
}

/// Digits, and not zero.
fn is_id(text: &str) -> bool {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number && text.bytes().any(|byte| byte != b'0')
}

/// Whether a refund's id or `tx_status` 4 stands anywhere in it.
fn tells_of_a_refund(body: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        // A number like 1e999, which nothing here reads, is too much for `Value` alone.
        let text = String::from_utf8_lossy(body);
        return text.contains("refund_tid") || text.contains("tx_status");
    };
    let is_4 = |value: &Value| match value {
        Value::String(text) => text.trim().parse() == Ok(4),
        other => other.as_i64() == Some(4),
    };
    let data = &value["data"];
    let refund_tid = match &data["refund_tid"] {
        Value::String(text) => is_id(text.trim()),
        // One that is too long for a number of Rust's is read as text, digit by digit.
        Value::Number(number) => number.is_f64() || is_id(&number.to_string()),
        _ => false,
    };
    refund_tid || is_4(&data["tx_status"]) || is_4(&value["tx_status"])
}
