//! What Eko does with one request: signature, shape, fault, effect, answer.

use crate::answers::{self, Reply};
use crate::call::{self, Endpoint, Request, Route};
use crate::effect::{self, Asked, Late, Sender};
use crate::faults::{Edition, Fault};
use crate::misbehave;
use crate::plan::Occasion;
use crate::shape::{self, Fields, Problems};
use crate::signature;
use crate::state::{Entry, State};

/// The answer to a request, and what is still to happen because of it.
pub(crate) struct Decision {
    pub(crate) reply: Reply,
    /// Milliseconds to wait before the answer, beside the latency.
    pub(crate) delay_ms: u64,
    pub(crate) late: Option<Late>,
    /// One word for the log line.
    pub(crate) note: String,
}

/// A decision with what the list of its tid keeps beside it.
struct Judged {
    decision: Decision,
    key: String,
    fault: Option<Fault>,
    executed: bool,
    accepted: bool,
}

/// Answers one request.
pub(crate) fn decide(state: &mut State, request: &Request, now_ms: u64) -> Decision {
    let (endpoint, reference) = match call::route(&request.method, &request.path) {
        Route::To(endpoint, reference) => (endpoint, call::as_integer(reference)),
        Route::WrongMethod(endpoint) => {
            let method = &request.method;
            state.bad_request(format!("{}: method {method} is not known", endpoint.as_str()));
            return refused(Reply::new(405, "text/plain", "Method Not Allowed"), "method");
        }
        Route::Nowhere => {
            state.bad_request(format!("no endpoint has the path {}", request.path));
            return refused(Reply::new(404, "text/plain", "No Mapping Rule matched"), "path");
        }
    };
    state.calls[endpoint as usize] += 1;
    let judged = judge(state, endpoint, reference, request, now_ms);
    if call::is_tid(&judged.key) {
        let entry = Entry {
            endpoint,
            at_ms: now_ms,
            fault: judged.fault.map(Fault::name),
            executed: judged.executed,
            http: judged.decision.reply.http,
            refused: (!judged.accepted).then(|| judged.decision.note.clone()),
            headers: headers(request).into(),
            body: String::from_utf8_lossy(&request.body).into(),
        };
        state.note(&judged.key, entry);
    }
    judged.decision
}

fn judge(
    state: &mut State,
    endpoint: Endpoint,
    reference: &str,
    request: &Request,
    now_ms: u64,
) -> Judged {
    let not_accepted = |decision| Judged {
        decision,
        key: reference.to_owned(),
        fault: None,
        executed: false,
        accepted: false,
    };
    let checked = signature::check(&request.headers, &state.keys, &mut state.stamps, now_ms);
    let stamp = match checked {
        Ok(stamp) => stamp,
        Err(refusal) => {
            state.rejected_signatures += 1;
            let body = answers::unauthorized(refusal.code(), refusal.message());
            let note = format!("signature {}", refusal.code());
            return not_accepted(refused(Reply::json(state.refused_with, &body), &note));
        }
    };
    match asked(endpoint, reference, request, stamp) {
        Ok(asked) => {
            let (decision, fault, executed) = serve(state, &asked);
            Judged { decision, key: asked.key, fault, executed, accepted: true }
        }
        Err((http, problems)) => not_accepted(wrong_shape(state, endpoint, http, &problems)),
    }
}

/// Reads a request, or says what is wrong with it and the HTTP status that tells so.
fn asked(
    endpoint: Endpoint,
    reference: &str,
    request: &Request,
    stamp: u64,
) -> Result<Asked, (u16, Problems)> {
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
        shape::body(endpoint, reference, &request.body).map_err(wrong)?
    };
    let named = endpoint == Endpoint::TransferOtp || is_by_client_ref_id;
    if !named && !call::is_tid(reference) {
        return Err(wrong(vec![("tid".to_owned(), "is not 1 to 19 digits")]));
    }
    let text = |name| fields.text(name).unwrap_or_default();
    let key =
        if endpoint == Endpoint::TransferOtp { text("recipient_id") } else { reference.to_owned() };
    let sender = if call::is_wallet(reference) {
        Sender::Wallet
    } else {
        Sender::Mobile(text("customer_id"))
    };
    Ok(Asked { endpoint, key, otp: text("otp"), sender, stamp })
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
        let normal = effect::normal(state, asked);
        let note = if normal.effective { "done" } else { "refused" };
        return (refused(Reply::json(200, &normal.body), note), None, normal.effective);
    };
    let late = effect::begin_late(state, asked, fault, &details);
    let takes_effect =
        fault.edition == Edition::Done || misbehave::is_form_of_success(fault.row.act);
    let normal = (takes_effect && late.is_none()).then(|| effect::normal(state, asked));
    let executed = normal.as_ref().is_some_and(|normal| normal.effective);
    let occasion = misbehave::Scene { endpoint: asked.endpoint, key: &asked.key, otp: &asked.otp };
    let reply = misbehave::reply(fault, &details, &occasion, normal.as_ref(), late.is_some());
    let delay_ms = if late.is_some() { 0 } else { details.after_ms.unwrap_or(0) };
    (Decision { reply, delay_ms, late, note: fault.name() }, Some(fault), executed)
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
