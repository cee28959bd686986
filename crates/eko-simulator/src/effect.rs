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
    sender: Sender,
    /// The `tx_status` that the transaction then gets; None: the normal effect of the call.
    becomes: Option<u8>,
    /// The timestamp of a request that was held on its way and arrives only now.
    held: Option<u64>,
}

impl Late {
    /// Brings the effect about; a request that was held is refused where its timestamp is no
    /// longer accepted, or was used meanwhile.
    pub(crate) fn happen(self, state: &mut State, now_ms: u64) {
        if self.held.is_some_and(|stamp| !state.stamps.accept(stamp, now_ms)) {
            state.rejected_signatures += 1;
            return;
        }
        if let Some(tx_status) = self.becomes {
            // A transaction that ends refunded was pending all the while; executing it says so.
            let next = if tx_status == 4 { 3 } else { tx_status };
            state.record(&self.key, self.endpoint).tx_status = Some(next);
        }
        if matches!(self.becomes, None | Some(4)) {
            let asked = Asked {
                endpoint: self.endpoint,
                key: self.key,
                otp: String::new(),
                sender: self.sender,
                stamp: 0,
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
    pub(crate) sender: Sender,
    /// The timestamp that it was signed with.
    pub(crate) stamp: u64,
}

/// Who sends the money of a transfer.
#[derive(Clone)]
pub(crate) enum Sender {
    /// Somebody with this number, which the answer repeats in part.
    Mobile(String),
    /// The owner of a wallet, whose answer has the form of a refund's OTP.
    Wallet,
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
    let mut held = None;
    let becomes = match fault.row.act {
        Act::Late(_) => None,
        Act::Held(_) => {
            state.stamps.give_back(asked.stamp);
            held = Some(asked.stamp);
            None
        }
        Act::Pending(first, last) => {
            let record = state.record(&asked.key, asked.endpoint);
            if record.tx_status != Some(3) {
                return None;
            }
            record.tx_status = Some(first);
            Some(last)
        }
        _ => return None,
    };
    Some(Late {
        after_ms: details.after_ms.unwrap_or(LATE_MS),
        endpoint: asked.endpoint,
        key: asked.key.clone(),
        sender: asked.sender.clone(),
        becomes,
        held,
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
            done(match &asked.sender {
                Sender::Mobile(number) => answers::transfer_otp_sent(&otp_ref_id, number),
                Sender::Wallet => answers::otp_sent(&otp_ref_id),
            })
        }
        (Endpoint::Refund, 4) if careless => {
            let refund_tid = state.execute(&asked.key);
            done(answers::refunded(&asked.key, refund_tid))
        }
        (_, 4) => refusal(answers::refusal_by_text("Transaction is already in refunded state.")),
        (Endpoint::RefundOtp, 3) => {
            let otp_ref_id = state.send_otp(&asked.key, asked.endpoint);
            done(answers::otp_sent(&otp_ref_id))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::signature::Keys;

    const STAMP: u64 = 1_700_000_000_000;
    const TOLERANCE_MS: u64 = 120_000;

    fn refund(tid: &str, otp: &str) -> Asked {
        let (key, otp, sender) = (tid.to_owned(), otp.to_owned(), Sender::Mobile(String::new()));
        Asked { endpoint: Endpoint::Refund, key, otp, sender, stamp: STAMP }
    }

    fn late(state: &mut State, fault: &str) -> Option<Late> {
        let fault = Fault::from_name(fault).unwrap();
        begin_late(state, &refund("1", "1234"), fault, &Details::default())
    }

    fn fresh() -> State {
        State::new(Keys::new("d", "a"), Plan::default(), TOLERANCE_MS)
    }

    fn executions(state: &State) -> Value {
        state.summary()["executions"].clone()
    }

    #[test]
    fn a_refund_is_executed_once_unless_careless() {
        let mut state = fresh();
        assert!(normal(&mut state, &refund("1", "1234")).effective);
        assert!(!normal(&mut state, &refund("1", "1234")).effective);
        assert_eq!(executions(&state), 1);
        state.careless = true;
        assert!(normal(&mut state, &refund("1", "1234")).effective);
        assert_eq!(state.whole()["executions"]["1"], 2);
        assert_eq!(state.summary()["executed_more_than_once"][0], "1");
    }

    #[test]
    fn a_wrong_otp_executes_nothing() {
        let mut state = fresh();
        assert_eq!(normal(&mut state, &refund("1", "000000")).body["status"], 302);
        assert_eq!(normal(&mut state, &refund("1", "999999")).body["status"], 303);
        state.record("1", Endpoint::Refund).otp = Some("4711".to_owned());
        assert_eq!(normal(&mut state, &refund("1", "1234")).body["status"], 302);
        assert_eq!(executions(&state), 0);
        assert!(normal(&mut state, &refund("1", "4711")).effective);
    }

    #[test]
    fn a_late_effect_does_not_execute_what_another_call_executed() {
        let mut state = fresh();
        let pending = late(&mut state, "late").unwrap();
        assert!(normal(&mut state, &refund("1", "1234")).effective);
        pending.happen(&mut state, STAMP);
        assert_eq!(executions(&state), 1);
    }

    #[test]
    fn a_pending_refund_ends_as_its_fault_says() {
        for (fault, meanwhile, at_last, count) in
            [("awaited", 2, 4, 1), ("hold", 5, 4, 1), ("awaited_then_back", 2, 3, 0)]
        {
            let mut state = fresh();
            let pending = late(&mut state, fault).unwrap();
            assert_eq!(state.record("1", Endpoint::Refund).tx_status, Some(meanwhile));
            assert!(!normal(&mut state, &refund("1", "1234")).effective, "{fault}");
            pending.happen(&mut state, STAMP);
            assert_eq!(state.record("1", Endpoint::Refund).tx_status, Some(at_last));
            assert_eq!(executions(&state), count, "{fault}");
        }
    }

    #[test]
    fn a_late_fault_leaves_a_transaction_that_is_not_refundable_alone() {
        let mut state = fresh();
        state.record("1", Endpoint::Refund).tx_status = Some(2);
        late(&mut state, "late").unwrap().happen(&mut state, STAMP);
        assert_eq!(executions(&state), 0);
    }

    #[test]
    fn a_request_that_was_held_is_executed_as_long_as_its_timestamp_is_accepted_and_unused() {
        for (arrives, is_used, count) in [
            (STAMP + TOLERANCE_MS, false, 1),
            (STAMP + TOLERANCE_MS + 1, false, 0),
            (STAMP + 1, true, 0),
        ] {
            let mut state = fresh();
            assert!(state.stamps.accept(STAMP, STAMP));
            let held = late(&mut state, "held_reset").unwrap();
            assert!(!is_used || state.stamps.accept(STAMP, STAMP));
            held.happen(&mut state, arrives);
            assert_eq!(executions(&state), count, "{arrives} {is_used}");
        }
    }
}
