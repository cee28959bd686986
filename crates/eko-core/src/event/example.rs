//! An example of each event, written by the code that writes the events.

use jiff::Timestamp;

use super::{About, Event};
use crate::command::Kind;
use crate::outcome::{Answer, Code, ConfirmedBy, Outcome, Problem, Receipt, Refusal};
use crate::trace::Trace;

/// The example's tid, as in Eko's documents.
const TID: &str = "13192443";

/// The body of an event that tells this outcome.
pub fn example(kind: Option<Kind>, outcome: &str) -> Vec<u8> {
    let name = kind.map_or("command", Kind::as_str);
    let command_id = format!("ord-7731-{}", name.replace('_', "-"));
    let subject = if kind == Some(Kind::TransferOtp) { "ORD-7731" } else { TID };
    let trace = Trace::new(0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
    let about = About {
        command_id: &command_id,
        event_id: &command_id,
        kind,
        subject: (outcome != "invalid").then_some(subject),
        correlation_id: kind.map(|_| "ord-7731"),
        attempts: match outcome {
            "invalid" | "expired" => 0,
            "failed" => 9,
            _ => 1,
        },
        trace: &trace,
        span: 0xb7ad_6b71_6920_3331,
    };
    // 2026-11-21T09:00:01.215Z, as in docs/contract.md.
    let time = Timestamp::from_millisecond(1_795_251_601_215).unwrap_or_default();
    Event::new(&about, &ended(kind, outcome), time).body
}

fn ended(kind: Option<Kind>, outcome: &str) -> Outcome {
    match (outcome, kind) {
        ("succeeded", _) => Outcome::Succeeded {
            confirmed_by: ConfirmedBy::Response,
            receipt: receipt(kind),
            answer: Some(match kind {
                Some(Kind::RefundOtp) => answer([2133, 1, 2133], "Send OTP"),
                Some(Kind::TransferOtp) => answer([0, 0, 1388], "OTP sent successfully"),
                Some(Kind::Refund) | None => answer([0, 0, 74], "Refund done"),
            }),
        },
        ("rejected", Some(Kind::Refund)) => {
            refused(Code::WrongOtp, answer([302, 1, 302], "Wrong OTP"))
        }
        ("rejected", Some(Kind::RefundOtp) | None) => {
            refused(Code::TidNotFound, answer([168, 1, 168], "TID does not exist"))
        }
        ("rejected", Some(Kind::TransferOtp)) => {
            refused(Code::UserNotFound, answer([1, 463, -1], "Customer not found"))
        }
        ("expired", _) => Outcome::Expired(Problem::new(
            Code::DeadlinePassed,
            "its expirytime passed before Eko accepted it",
        )),
        ("failed", _) => Outcome::Failed(Problem::new(
            Code::EkoUnavailable,
            "Eko or the bank behind it was not available",
        )),
        ("unresolved", _) => {
            Outcome::Unresolved(Problem::new(Code::Timeout, "Eko did not answer in time"))
        }
        (_, None) => Outcome::Invalid(Problem::new(
            Code::MalformedJson,
            "the message is JSON, but not an object",
        )),
        (_, Some(Kind::TransferOtp)) => Outcome::Invalid(Problem::new(
            Code::InvalidCommand,
            "data.amount: must be a whole number of rupees above 0",
        )),
        (_, Some(_)) => {
            Outcome::Invalid(Problem::new(Code::InvalidCommand, "data.tid: must be digits only"))
        }
    }
}

fn receipt(kind: Option<Kind>) -> Receipt {
    let fields: &[(&str, &str)] = match kind {
        Some(Kind::Refund) | None => &[
            ("tid", TID),
            ("refund_tid", "2147591637"),
            ("refunded_amount", "5050.00"),
            ("amount", "5000.00"),
            ("fee", "50.00"),
            ("tds", "7.10"),
            ("commission_reverse", "28.38"),
            ("balance", "2222637312.86"),
            ("currency", "INR"),
            ("timestamp", "2018-10-30T12:00:14.058Z"),
        ],
        Some(Kind::RefundOtp) => &[("tid", TID), ("otp_ref_id", "zCISyglexo0Pjqp4")],
        Some(Kind::TransferOtp) => &[
            ("client_ref_id", "ORD-7731"),
            ("otp_ref_id", "TXNOTP20240101001"),
            ("mobile", "XXXXXX6789"),
        ],
    };
    let mut receipt = Receipt::default();
    fields.iter().for_each(|(name, value)| receipt.put(name, *value));
    receipt
}

fn refused(code: Code, answer: Answer) -> Outcome {
    let message = answer.message.as_deref().unwrap_or_default();
    Outcome::Rejected(Refusal {
        problem: Problem::new(code, format!("Eko refused: {message}")),
        answer,
    })
}

fn answer(numbers: [i64; 3], message: &str) -> Answer {
    let [status, response_status_id, response_type_id] = numbers.map(Some);
    Answer {
        http_status: 200,
        status,
        response_status_id,
        response_type_id,
        message: Some(message.to_owned()),
    }
}
