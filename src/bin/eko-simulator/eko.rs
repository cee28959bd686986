//! What Eko does with one request: signature, shape, fault, effect, answer.

use serde_json::Value;

use crate::answers::{self, Reply};
use crate::call::{self, Endpoint, Request, Route};
use crate::faults::{Act, Edition, Fault};
use crate::misbehave;
use crate::plan::{Details, Occasion};
use crate::shape::{self, Fields, Problems};
use crate::signature;
use crate::state::{Entry, State};

/// How long after its call a late effect comes, unless the order says other.
const LATE_MS: u64 = 2000;

/// The answer to a request, and what is still to happen because of it.
pub(crate) struct Decision {
    pub(crate) reply: Reply,
    /// Milliseconds to wait before the answer, beside the latency.
    pub(crate) delay_ms: u64,
    pub(crate) late: Option<Late>,
    /// One word for the log line.
    pub(crate) note: String,
}

/// An effect that comes after its answer.
pub(crate) struct Late {
    pub(crate) after_ms: u64,
    endpoint: Endpoint,
    key: String,
    customer_id: String,
    /// The tx_status that the transaction then gets; None: the normal effect of the call.
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
struct Asked {
    endpoint: Endpoint,
    key: String,
    otp: String,
    customer_id: String,
}

/// The normal answer, and whether the call had its effect.
pub(crate) struct Normal {
    pub(crate) body: Value,
    pub(crate) effective: bool,
}

/// Answers one request.
pub(crate) fn decide(state: &mut State, request: &Request, now_ms: u64) -> Decision {
    let (endpoint, reference) = match call::route(&request.method, &request.path) {
        Route::To(endpoint, reference) => (endpoint, reference),
        Route::WrongMethod(endpoint) => {
            state.bad_request(format!("{endpoint:?}: method {} is not known", request.method));
            return refused(Reply::new(405, "text/plain", "Method Not Allowed"), "method");
        }
        Route::Nowhere => {
            state.bad_request(format!("no endpoint has the path {}", request.path));
            return refused(Reply::new(404, "text/plain", "No Mapping Rule matched"), "path");
        }
    };
    state.calls[endpoint as usize] += 1;
    let checked = signature::check(&request.headers, &state.keys, &mut state.stamps, now_ms);
    let (decision, key, fault) = if let Err(refusal) = checked {
        state.rejected_signatures += 1;
        let body = answers::unauthorized(refusal.code(), refusal.message());
        let note = format!("signature {}", refusal.code());
        (refused(Reply::json(401, &body), &note), reference.to_owned(), None)
    } else {
        match asked(endpoint, reference, request) {
            Ok(asked) => {
                let (decision, fault, executed) = serve(state, &asked);
                (decision, asked.key, Some((fault, executed)))
            }
            Err((http, problems)) => {
                (wrong_shape(state, endpoint, http, &problems), reference.to_owned(), None)
            }
        }
    };
    if call::is_tid(&key) {
        let accepted = fault.is_some();
        let (fault, executed) = fault.unwrap_or((None, false));
        state.note(
            &key,
            Entry {
                endpoint,
                at_ms: now_ms,
                fault: fault.map(Fault::name),
                executed,
                http: decision.reply.http,
                refused: (!accepted).then(|| decision.note.clone()),
                headers: headers(request).into(),
                body: String::from_utf8_lossy(&request.body).into(),
            },
        );
    }
    decision
}

/// Reads a request, or says what is wrong with it and the HTTP status that tells so.
fn asked(endpoint: Endpoint, reference: &str, request: &Request) -> Result<Asked, (u16, Problems)> {
    let wrong = |problems| (200, problems);
    let is_by_client_ref_id = reference.starts_with("client_ref_id:");
    let fields: Fields = if endpoint == Endpoint::Inquiry {
        shape::query(&request.query).map_err(wrong)?
    } else {
        let content_type =
            request.headers.get("content-type").and_then(|value| value.to_str().ok());
        let media_type = content_type.and_then(|text| text.split(';').next()).unwrap_or("");
        if media_type != "application/json" {
            return Err((415, vec![("content-type".to_owned(), "is not application/json")]));
        }
        shape::body(endpoint, &request.body).map_err(wrong)?
    };
    let named = endpoint == Endpoint::TransferOtp || is_by_client_ref_id;
    if !named && !call::is_tid(reference) {
        return Err(wrong(vec![("tid".to_owned(), "is not 1 to 19 digits")]));
    }
    let text = |name| fields.text(name).unwrap_or_default();
    let key =
        if endpoint == Endpoint::TransferOtp { text("recipient_id") } else { reference.to_owned() };
    Ok(Asked { endpoint, key, otp: text("otp"), customer_id: text("customer_id") })
}

fn wrong_shape(state: &mut State, endpoint: Endpoint, http: u16, problems: &Problems) -> Decision {
    let reasons: Vec<_> = problems.iter().map(|(field, why)| format!("{field} {why}")).collect();
    let reason = format!("{}: {}", endpoint.as_str(), reasons.join(", "));
    state.bad_request(reason.clone());
    let reply = if http == 415 {
        Reply::new(415, "text/plain", "Unsupported Media Type")
    } else {
        Reply::json(200, &answers::invalid_params(problems))
    };
    refused(reply, &reason)
}

fn refused(reply: Reply, note: &str) -> Decision {
    Decision { reply, delay_ms: 0, late: None, note: note.to_owned() }
}

/// Serves a well-formed call, with the fault that befalls it.
fn serve(state: &mut State, asked: &Asked) -> (Decision, Option<Fault>, bool) {
    if !call::is_tid(&asked.key) {
        let reply = Reply::json(200, &answers::not_found());
        return (refused(reply, "not found"), None, false);
    }
    let record = state.record(&asked.key, asked.endpoint);
    let count = &mut record.counts[asked.endpoint as usize];
    *count += 1;
    let occasion = Occasion { endpoint: asked.endpoint, key: &asked.key, nth: *count };
    let Some((fault, details)) = state.plan.choose(&occasion) else {
        let normal = normal(state, asked);
        let note = if normal.effective { "done" } else { "refused" };
        return (refused(Reply::json(200, &normal.body), note), None, normal.effective);
    };
    let late = begin_late(state, asked, fault, &details);
    let takes_effect =
        fault.edition == Edition::Done || misbehave::is_form_of_success(fault.row.act);
    let normal = (takes_effect && late.is_none()).then(|| normal(state, asked));
    let executed = normal.as_ref().is_some_and(|normal| normal.effective);
    let occasion = misbehave::Scene { endpoint: asked.endpoint, key: &asked.key, otp: &asked.otp };
    let reply = misbehave::reply(fault, &details, &occasion, normal.as_ref(), late.is_some());
    let delay_ms = if late.is_some() { 0 } else { details.after_ms.unwrap_or(0) };
    (Decision { reply, delay_ms, late, note: fault.name() }, Some(fault), executed)
}

/// Prepares the effect of a fault whose effect comes later.
fn begin_late(state: &mut State, asked: &Asked, fault: Fault, details: &Details) -> Option<Late> {
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
fn normal(state: &mut State, asked: &Asked) -> Normal {
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

/// The headers as lines, names as on the wire, secrets hidden.
fn headers(request: &Request) -> String {
    let mut text = String::with_capacity(300);
    for name in &request.names {
        let value = match name.to_ascii_lowercase().as_str() {
            "developer_key" | "secret-key" | "authorization" => "(hidden)",
            lower => request.headers.get(lower).and_then(|v| v.to_str().ok()).unwrap_or(""),
        };
        text.extend([name, ": ", value, "\n"]);
    }
    text
}
