//! Evidence before codes: what an answer tells of an execution, wherever that stands in it, and what
//! is left beside it of the verdict on a refund, or of an inquiry's reading.
//!
//! The scan reads raw bytes and not the parsed envelope. So it also sees what stands in an unusual
//! place, in an object that has a field twice, or in a body that breaks off.

use memchr::memmem;

use crate::envelope::Envelope;
use eko_core::outcome::Code;
use eko_core::verdict::{Cause, Fallback, Reading, Verdict};

/// What is left of a refund's verdict beside the evidence in the same answer. Only a success with
/// evidence and a refusal without any stand. After anything else an inquiry decides, also after
/// what says that it did not happen: a proxy may have said that after Eko executed the refund, and
/// Eko itself may have said it to a copy that a proxy sent.
pub(super) fn outranked(verdict: Verdict, body: Option<&[u8]>) -> Verdict {
    let evidence = || body.map(Evidence::of).unwrap_or_default();
    match verdict {
        Verdict::Done(..) => verdict,
        Verdict::Refused(refusal) => match evidence() {
            Evidence { of_execution: false, of_progress: false, of_success: false } => {
                Verdict::Refused(refusal)
            }
            Evidence { of_execution: false, of_progress: true, .. } => {
                Verdict::Unclear { cause: Cause::Pending, after: None, fallback: Fallback::Wait }
            }
            Evidence { .. } => Verdict::Unclear {
                cause: Cause::BadResponse,
                after: None,
                fallback: Fallback::Wait,
            },
        },
        Verdict::NotNow { cause, after } => {
            Verdict::Unclear { cause, after, fallback: evidence().or(Fallback::Repeat) }
        }
        Verdict::Unclear { cause, after, fallback } => {
            Verdict::Unclear { cause, after, fallback: evidence().or(fallback) }
        }
    }
}

/// What is left of an inquiry's reading beside the evidence in the same answer. "Refund pending"
/// allows another attempt, so that nothing in the answer may speak against it; "failed" and
/// "succeeded" stand unless it also tells of a refund.
pub(super) fn beside_evidence(reading: Reading, envelope: &Envelope<'_>, body: &[u8]) -> Reading {
    let tells_of_a_refund = || {
        !envelope.data.refund_tid.is_empty()
            || Evidence::of(body).of_execution
            || display_ids(envelope, body).any(|id| id == Some(4))
    };
    match reading {
        Reading::Succeeded | Reading::Failed if tells_of_a_refund() => Reading::Contradictory,
        Reading::RefundPending if tells_of_a_refund() => Reading::Contradictory,
        Reading::RefundPending => pending(envelope, body),
        Reading::Succeeded
        | Reading::Failed
        | Reading::Refunded(..)
        | Reading::InProgress
        | Reading::NotFound
        | Reading::Contradictory
        | Reading::NoAnswer(_) => reading,
    }
}

/// What a `tx_status` of 3 means beside each other `tx_status` and each display id of the answer.
fn pending(envelope: &Envelope<'_>, body: &[u8]) -> Reading {
    let mut statuses = values(body, b"tx_status").filter(|value| !is_nothing(value));
    if statuses.any(|value| number(value) != Some(3)) {
        return Reading::Contradictory;
    }
    let is_listed = |id: Option<i64>| matches!(id, Some(-2..=5));
    if !display_ids(envelope, body).all(is_listed) {
        return Reading::Contradictory;
    }
    // Initiated, refund initiated, on hold, or another transaction of the user in progress.
    let is_under_way = |id: Option<i64>| matches!(id, Some(-2 | 2 | 5));
    if display_ids(envelope, body).any(is_under_way) {
        return Reading::InProgress;
    }
    Reading::RefundPending
}

/// Each `response_status_id` of an answer, wherever it stands; `None` is one that is no number.
fn display_ids(envelope: &Envelope<'_>, body: &[u8]) -> impl Iterator<Item = Option<i64>> {
    let raw = values(body, b"response_status_id").filter(|value| !is_nothing(value)).map(number);
    raw.chain(envelope.response_status_id.map(Some))
}

fn is_nothing(value: &[u8]) -> bool {
    matches!(value, b"" | b"null")
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// What an answer tells of an execution, beside its code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Evidence {
    /// It names a refund's id, or `tx_status` 4.
    of_execution: bool,
    /// It names a `tx_status` that is not final: 2, 5, 6 or any other value.
    of_progress: bool,
    /// It names `tx_status` 0, which only a transaction that cannot be refunded has beside a
    /// refusal.
    of_success: bool,
}

impl Evidence {
    /// Reads a body.
    fn of(body: &[u8]) -> Self {
        let mut evidence = Self::default();
        for value in values(body, b"refund_tid") {
            evidence.of_execution |= may_be_id(value);
        }
        for value in values(body, b"tx_status") {
            match value {
                b"" | b"null" | b"{" | b"[" | b"1" | b"3" => {}
                b"0" => evidence.of_success = true,
                b"4" => evidence.of_execution = true,
                _ => evidence.of_progress = true,
            }
        }
        evidence
    }

    /// What follows if the attempt turns out not to have been executed.
    fn or(self, fallback: Fallback) -> Fallback {
        let fits_success = match &fallback {
            // A transfer that succeeded is what Eko means by "not refundable".
            Fallback::Refuse(refusal) => refusal.problem.code == Code::NotRefundable,
            Fallback::Repeat | Fallback::Wait => false,
        };
        let is_against_it = self.of_success && !fits_success;
        if self.of_execution || self.of_progress || is_against_it {
            Fallback::Wait
        } else {
            fallback
        }
    }
}

/// A refund's id, or a number in a form that no id has: too much evidence costs an inquiry, too
/// little costs a second refund. The rest of a template (`{2}`) is no evidence.
fn may_be_id(value: &[u8]) -> bool {
    value.first().is_some_and(u8::is_ascii_digit)
        && value.iter().any(|byte| matches!(byte, b'1'..=b'9'))
}

/// The values of a field, without quotes and spaces, in the order of the text.
fn values<'a>(body: &'a [u8], name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    memmem::find_iter(body, name).filter_map(move |at| {
        let begins = at.checked_sub(1).and_then(|before| body.get(before));
        let rest = body.get(at + name.len()..)?;
        if begins.is_some_and(is_word) || rest.first().is_some_and(is_word) {
            return None;
        }
        let rest = unquoted(rest).strip_prefix(b":")?;
        let value = unquoted(rest);
        let is_end = |byte: &u8| b"\",}]".contains(byte) || byte.is_ascii_whitespace();
        let value = value.get(..value.iter().position(is_end).unwrap_or(value.len()))?;
        // The quote behind it may be escaped; an escape in it (`\u0034`) is part of it.
        let end = value.iter().rposition(|byte| *byte != b'\\').map_or(0, |last| last + 1);
        value.get(..end)
    })
}

/// What follows after spaces and one quote, which is escaped in JSON that stands in a string.
fn unquoted(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_start();
    let quoted = match text.iter().position(|byte| *byte != b'\\') {
        Some(at) if text.get(at) == Some(&b'"') => text.get(at + 1..),
        Some(_) | None => None,
    };
    quoted.unwrap_or(text).trim_ascii_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Evidence = Evidence { of_execution: false, of_progress: false, of_success: false };
    const EXECUTED: Evidence = Evidence { of_execution: true, ..NONE };
    const UNDER_WAY: Evidence = Evidence { of_progress: true, ..NONE };

    #[test]
    fn evidence_is_seen_wherever_it_stands_and_in_any_form() {
        for (body, expected) in [
            (r#"{"data":{"refund_tid":"2147591637"}}"#, EXECUTED),
            (r#"{"refund_tid": 2147591637 }"#, EXECUTED),
            (r#"{"data":[{"a":{"tx_status" : " 4 "}}]}"#, EXECUTED),
            (r#"{"tx_status":4,"tx_status":3}"#, EXECUTED),
            (r#"{"data":"{\"tx_status\":\"4\",\"x\":1}"}"#, EXECUTED),
            (r#"{"data":{"tx_status":"4"#, EXECUTED),
            (r#"{"data":{"refund_tid":2.147591637E9}}"#, EXECUTED),
            (r#"{"data":{"tx_status":2}}"#, UNDER_WAY),
            (r#"{"tx_status":"5"}"#, UNDER_WAY),
            (r#"{"tx_status":6}"#, UNDER_WAY),
            (r#"{"tx_status":9}"#, UNDER_WAY),
            (r#"{"tx_status":"awaited"}"#, UNDER_WAY),
            (r#"{"tx_status":4.0}"#, UNDER_WAY),
            (r#"{"tx_status":0}"#, Evidence { of_success: true, ..NONE }),
        ] {
            assert_eq!(Evidence::of(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn what_tells_nothing_is_no_evidence() {
        for body in [
            r#"{"status":544,"message":"bank not available"}"#,
            r#"{"refund_tid":"","tx_status":""}"#,
            r#"{"data":"{\"refund_tid\":\"\",\"tx_status\":\"\"}"}"#,
            r#"{"refund_tid":null,"tx_status":null}"#,
            r#"{"refund_tid":0}"#,
            r#"{"refund_tid":"{2}"}"#,
            r#"{"refund_tid":"000"}"#,
            r#"{"tx_status":1,"data":{"tx_status":"3"}}"#,
            r#"{"tx_status":{},"data":{"tx_status":[]}}"#,
            r#"{"txstatus_desc":"Refunded","tx_status_old":4,"my_tx_status":4}"#,
            r#"{"message":"tx_status"}"#,
            r#"{"tx_status"#,
            "",
        ] {
            assert_eq!(Evidence::of(body.as_bytes()), NONE, "{body}");
        }
    }
}
