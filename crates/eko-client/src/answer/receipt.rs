//! The result of a success: what Eko's documents name, in one form.

use super::super::amount;
use super::super::envelope::{Data, Envelope, is_id};
use eko_core::command::{Command, Request};
use eko_core::outcome::Receipt;
use eko_core::privacy::mask;

/// Longest value that is passed on, in characters; no documented one has more than 100.
const MAX_VALUE: usize = 1024;

/// What a refund gave. `tid` is the command's.
pub(super) fn refund(tid: &str, envelope: &Envelope<'_>) -> Receipt {
    let data = &envelope.data;
    let mut receipt = Receipt::default();
    receipt.put("tid", tid);
    receipt.put("refund_tid", text(refund_tid(tid, data)));
    for (name, value) in [
        ("refunded_amount", &data.refunded_amount),
        ("amount", &data.amount),
        ("fee", &data.fee),
        ("tds", &data.tds),
        ("commission_reverse", &data.commission_reverse),
        ("balance", &data.balance),
        ("gst", &data.gst),
    ] {
        receipt.put(name, amount::plain(value).unwrap_or_default());
    }
    for (name, value) in [
        ("currency", &data.currency),
        ("timestamp", &data.timestamp),
        ("bank_ref_num", &data.bank_ref_num),
        ("client_ref_id", &data.client_ref_id),
    ] {
        receipt.put(name, text(value));
    }
    receipt
}

/// QR answers have the refund's id as `data.tid`.
fn refund_tid<'a>(tid: &str, data: &'a Data<'_>) -> &'a str {
    match data.refund_tid.as_ref() {
        "" if data.tid != tid && is_id(&data.tid) => &data.tid,
        refund_tid => refund_tid,
    }
}

/// What an OTP call gave.
pub(super) fn otp(command: &Command, envelope: &Envelope<'_>) -> Receipt {
    let data = &envelope.data;
    let mut receipt = Receipt::default();
    receipt.put("otp_ref_id", text(&data.otp_ref_id));
    match &command.request {
        Request::TransferOtp(request) => {
            receipt.put("mobile", masked(&data.mobile));
            receipt.put("client_ref_id", request.client_ref_id.as_str());
        }
        Request::RefundOtp(_) | Request::Refund(_) => {
            receipt.put("tid", command.subject());
            if data.otp_ref_id.is_empty() {
                receipt.put("unconfirmed", "true");
            }
        }
    }
    receipt
}

/// Eko masks the number; where it did not, we do.
fn masked(mobile: &str) -> String {
    let shown = mobile.chars().filter(char::is_ascii_digit).count();
    if shown > 4 { mask(mobile) } else { text(mobile) }
}

fn text(value: &str) -> String {
    if value.len() <= MAX_VALUE && value.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return value.to_owned();
    }
    value.chars().filter(|c| !c.is_control()).take(MAX_VALUE).collect()
}
