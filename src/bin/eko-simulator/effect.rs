//! What calls do to transactions, at once or late.

use serde_json::Value;

use crate::answers;
use crate::call::Endpoint;
use crate::faults::{Act, Fault};
use crate::plan::Details;
use crate::state::State;

/// How long after its call a late effect comes, unless the order says other.
const LATE_MS: u64 = 2000;

/// An effect that comes after its answer.
pub(crate) struct Late {
    pub(crate) after_ms: u64,
    endpoint: Endpoint,
    key: String,
    customer_id: String,
    /// The `tx_status` that the transaction then gets; None: the normal effect of the call.
    becomes: Option<u8>,
}

impl Late {
    /// Brings the effect about.
    pub(crate) fn happen(self, state: &mut State) {
        if let Some(tx_status) = self.becomes {
            state.record(&self.key, self.endpoint).tx_status = Some(tx_status);
        } else {
            if self.endpoint == Endpoint::Refund {
                let record = state.record(&self.key, self.endpoint);
                // The refund was taken up when it was pending: that it now awaits is our own doing.
                if matches!(record.tx_status, Some(2 | 5 | 6)) {
                    record.tx_status = Some(3);
                }
            }
            let asked = Asked {
                endpoint: self.endpoint,
                key: self.key,
                otp: String::new(),
                customer_id: self.customer_id,
            };
            normal(state, &asked);
        }
    }
}

/// A well-formed request.
pub(crate) struct Asked {
    pub(crate) endpoint: Endpoint,
    pub(crate) key: String,
    pub(crate) otp: String,
    pub(crate) customer_id: String,
}

/// The normal answer, and whether the call had its effect.
pub(crate) struct Normal {
    pub(crate) body: Value,
    pub(crate) effective: bool,
}

/// Prepares the effect of a fault whose effect comes later.
pub(crate) fn begin_late(
    state: &mut State,
    asked: &Asked,
    fault: Fault,
    details: &Details,
) -> Option<Late> {
    let becomes = match fault.row.act {
        Act::Late(_) => None,
        Act::Pending(first, last) => {
            let record = state.record(&asked.key, asked.endpoint);
            if record.tx_status != Some(3) {
                return None;
            }
            record.tx_status = Some(first);
            (last != 4).then_some(last)
        }
        _ => return None,
    };
    Some(Late {
        after_ms: details.after_ms.unwrap_or(LATE_MS),
        endpoint: asked.endpoint,
        key: asked.key.clone(),
        customer_id: asked.customer_id.clone(),
        becomes,
    })
}

/// Does what is asked, as a healthy Eko does.
pub(crate) fn normal(state: &mut State, asked: &Asked) -> Normal {
    let careless = state.careless;
    let record = state.record(&asked.key, asked.endpoint);
    let tx_status = record.tx_status.unwrap_or(3);
    let refusal = |body| Normal { body, effective: false };
    let done = |body| Normal { body, effective: true };
    match (asked.endpoint, tx_status) {
        (Endpoint::Inquiry, _) => done(answers::found(&asked.key, tx_status)),
        (Endpoint::TransferOtp, _) => {
            let otp_ref_id = state.send_otp(&asked.key, asked.endpoint);
            done(answers::transfer_otp_sent(&otp_ref_id, &asked.customer_id))
        }
        (Endpoint::Refund, 4) if careless => {
            let refund_tid = state.execute(&asked.key);
            done(answers::refunded(&asked.key, refund_tid))
        }
        (_, 4) => refusal(answers::refusal_by_text("Transaction is already in refunded state.")),
        (Endpoint::RefundOtp, 3) => {
            let otp_ref_id = state.send_otp(&asked.key, asked.endpoint);
            done(answers::refund_otp_sent(&otp_ref_id))
        }
        (Endpoint::Refund, 3) => match otp_problem(record.otp.as_deref(), &asked.otp) {
            Some(problem) => refusal(problem),
            None => {
                let refund_tid = state.execute(&asked.key);
                done(answers::refunded(&asked.key, refund_tid))
            }
        },
        _ => refusal(answers::refusal_by_text("Transaction is not in a refundable state.")),
    }
}

/// What is wrong with an OTP; an empty one belongs to a late effect, whose OTP was taken before.
fn otp_problem(right: Option<&str>, otp: &str) -> Option<Value> {
    let wrong = match right {
        _ if otp.is_empty() => false,
        Some(right) => otp != right,
        None if otp == "999999" => return Some(answers::refusal(303, "OTP expired")),
        None => otp == "000000",
    };
    wrong.then(|| {
        let mut body = answers::refusal(302, "Wrong OTP");
        body["invalid_params"] = serde_json::json!({"otp": "Wrong OTP"});
        body
    })
}
