//! An HTTP answer of Eko to an inquiry → a [`Reading`].

use super::evidence::beside_evidence;
use super::{
    Envelope, HttpAnswer, Read, answer, cause_without_envelope, is_another, our_fault, receipt,
};
use eko_core::verdict::{Cause, Reading};

/// Reads the answer to an inquiry about `tid`.
pub fn reading(tid: &str, secrets: &[&str], http: &HttpAnswer) -> Read<Reading> {
    let envelope = http.body.as_deref().and_then(Envelope::read);
    if let Some(cause) = envelope.as_ref().and_then(|envelope| our_fault(envelope.status)) {
        return Read::known(Reading::NoAnswer(cause));
    }
    match http.status {
        404 if envelope.as_ref().is_some_and(is_not_found) => Read::known(Reading::NotFound),
        200..=299 => match envelope {
            Some(envelope) => {
                let Read { meaning, is_known } = inquired(tid, secrets, http.status, &envelope);
                let body = http.body.as_deref().unwrap_or_default();
                Read { meaning: beside_evidence(meaning, &envelope, body), is_known }
            }
            None => Read::known(Reading::NoAnswer(cause_without_envelope(http.body.as_deref()))),
        },
        300..=399 | 404 | 405 | 415 => Read::known(Reading::NoAnswer(Cause::Misconfigured)),
        401 | 403 => Read::known(Reading::NoAnswer(Cause::Unauthorized)),
        429 => Read::known(Reading::NoAnswer(Cause::RateLimited)),
        500..=599 => Read::known(Reading::NoAnswer(Cause::EkoUnavailable)),
        _ => Read::unknown(Reading::NoAnswer(Cause::BadResponse)),
    }
}

fn inquired(
    tid: &str,
    secrets: &[&str],
    http_status: u16,
    envelope: &Envelope<'_>,
) -> Read<Reading> {
    match code(envelope) {
        0 => {}
        _ if is_not_found(envelope) => return Read::known(Reading::NotFound),
        _ => return Read::unknown(Reading::NoAnswer(Cause::BadResponse)),
    }
    let is_other = !envelope.data.tid.is_empty() && is_another(&envelope.data.tid, tid);
    if is_other || envelope.invalid_params.is_some() {
        return Read::known(Reading::Contradictory);
    }
    let Some(&first) = envelope.tx_statuses.first() else {
        return Read::known(Reading::NoAnswer(Cause::BadResponse));
    };
    if envelope.tx_statuses.iter().any(|&tx| tx != first) {
        return Read::known(Reading::Contradictory);
    }
    Read::known(match first {
        Some(0) => Reading::Succeeded,
        Some(1) => Reading::Failed,
        Some(3) => Reading::RefundPending,
        Some(4) => {
            let answer = answer(http_status, envelope, secrets);
            Reading::Refunded(receipt::refund(tid, envelope), answer)
        }
        Some(_) | None => Reading::InProgress,
    })
}

fn code(envelope: &Envelope<'_>) -> i64 {
    match (envelope.status, envelope.response_status_id) {
        (1, Some(code)) if !(-2..=5).contains(&code) => code,
        (status, _) => status,
    }
}

fn is_not_found(envelope: &Envelope<'_>) -> bool {
    let says_so = || envelope.message.to_lowercase().contains("no transaction found");
    let code = code(envelope);
    matches!(code, 69 | 168 | 463) || (code != 0 && says_so())
}
