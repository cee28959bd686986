//! What a command's calls tell about Eko as a whole.

use crate::breaker::{Breakers, HealthSignal};
use crate::command::Kind;
use crate::history::{Entry, History};
use crate::verdict::{Cause, Reading, Verdict};

/// What a call tells about Eko as a whole. One timestamp that is refused may have been another
/// worker's with the same key, in the same millisecond; a second in a row is our clock's fault.
pub(super) fn health_signal(
    kind: Kind,
    history: &History,
    verdict: &Verdict,
    skew: Option<f64>,
) -> HealthSignal {
    let is_refused = |verdict: &Verdict| verdict.cause() == Some(Cause::Clock);
    let before = history.each_attempt().rev().nth(1).and_then(|attempt| attempt.ended.as_ref());
    let is_first = !before.is_some_and(|ended| is_refused(&ended.verdict));
    let is_no_fault = is_refused(verdict) && (is_first || is_right(skew));
    if is_no_fault || is_told_by_inquiry(kind, verdict) {
        HealthSignal::Nothing
    } else {
        verdict.into()
    }
}

/// Whether the answer shows that our clock is right: then a refused timestamp was used before, by
/// another worker with the same key or by a proxy that sent the call twice.
fn is_right(skew: Option<f64>) -> bool {
    skew.is_some_and(Breakers::is_right)
}

/// Whether the inquiry that follows at once tells what a call told about Eko as a whole: a
/// refund may have been executed though it was answered by a 5xx.
fn is_told_by_inquiry(kind: Kind, verdict: &Verdict) -> bool {
    const CAUSE: Cause = Cause::EkoUnavailable;
    kind == Kind::Refund && matches!(verdict, Verdict::Unclear { cause: CAUSE, after: None, .. })
}

/// What an inquiry tells about Eko as a whole; the first one after such a call also tells of
/// that: unless it was executed, it has failed. After a call that told of a fault of ours, an
/// inquiry that goes well says nothing: only the refund's own endpoint may be closed to us.
pub(super) fn inquiry_signal(
    kind: Kind,
    history: &History,
    reading: &Reading,
    skew: Option<f64>,
) -> HealthSignal {
    let last = history.each_attempt().next_back().and_then(|attempt| attempt.ended.as_ref());
    let last = last.map(|ended| &ended.verdict);
    let is_next = matches!(history.entries.last(), Some(Entry::Attempt(_)));
    match (last, reading) {
        (_, Reading::NoAnswer(Cause::Clock)) if is_right(skew) => HealthSignal::Nothing,
        (_, Reading::NoAnswer(_) | Reading::Refunded(..)) => reading.into(),
        (Some(verdict), _) if is_next && is_told_by_inquiry(kind, verdict) => verdict.into(),
        (Some(verdict), _)
            if kind == Kind::Refund && HealthSignal::from(verdict).is_fault_of_ours() =>
        {
            HealthSignal::Nothing
        }
        _ => reading.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::breaker::Reason;
    use crate::clock::{Now, Stamp};
    use crate::outcome::{Answer, Receipt};
    use crate::verdict::Fallback;

    const NOW: Now = Now { wall: Timestamp::UNIX_EPOCH, process: 1, monotonic: Duration::ZERO };
    const STAMP: Stamp = Stamp { at: 0, lead: 0 };

    /// A refund with attempts that were answered so, the last one not yet noted.
    fn attempts(answered: &[&Verdict]) -> History {
        let mut history = History::new(NOW);
        for verdict in answered {
            history.begin(NOW, STAMP);
            history.end(NOW, Verdict::clone(verdict));
        }
        history.begin(NOW, STAMP);
        history
    }

    #[test]
    fn a_second_refused_timestamp_in_a_row_is_the_clock_s_fault() {
        let keys = Verdict::unclear(Cause::Unauthorized);
        for clock in [Verdict::not_now(Cause::Clock), Verdict::unclear(Cause::Clock)] {
            let signal = |before: &[&Verdict], verdict, skew| {
                health_signal(Kind::Refund, &attempts(before), verdict, skew)
            };
            assert_eq!(signal(&[], &clock, None), HealthSignal::Nothing);
            assert_eq!(signal(&[&clock], &clock, None), HealthSignal::Against(Reason::Clock));
            assert_eq!(
                signal(&[&clock], &clock, Some(-91.0)),
                HealthSignal::Against(Reason::Clock)
            );
            assert_eq!(
                signal(&[&clock], &clock, Some(90.0)),
                HealthSignal::Nothing,
                "our clock is right"
            );
            let unauthorized = HealthSignal::Against(Reason::Unauthorized);
            assert_eq!(signal(&[&clock], &keys, Some(0.0)), unauthorized);
        }
    }

    #[test]
    fn an_inquiry_whose_timestamp_is_refused_tells_nothing_while_our_clock_is_right() {
        let history = attempts(&[]);
        let refused = Reading::NoAnswer(Cause::Clock);
        let signal = |skew| inquiry_signal(Kind::Refund, &history, &refused, skew);
        assert_eq!(signal(Some(1.0)), HealthSignal::Nothing);
        assert_eq!(signal(Some(100.0)), HealthSignal::Against(Reason::Clock));
        assert_eq!(signal(None), HealthSignal::Against(Reason::Clock));
    }

    #[test]
    fn an_inquiry_that_goes_well_does_not_clear_the_refund_endpoint() {
        for cause in [Cause::Unauthorized, Cause::Misconfigured, Cause::Clock] {
            let mut history = History::new(NOW);
            history.begin(NOW, STAMP);
            history.end(NOW, Verdict::unclear(cause));
            let signal =
                |history: &History, reading| inquiry_signal(Kind::Refund, history, &reading, None);
            assert_eq!(signal(&history, Reading::RefundPending), HealthSignal::Nothing);
            history.inquired(NOW, None, Reading::RefundPending);
            assert_eq!(
                signal(&history, Reading::RefundPending),
                HealthSignal::Nothing,
                "nor a later one"
            );
            let refunded = Reading::Refunded(Receipt::default(), Answer::default());
            assert_eq!(signal(&history, refunded), HealthSignal::Fine);
            let away = Reading::NoAnswer(Cause::Unauthorized);
            assert_eq!(signal(&history, away), HealthSignal::Against(Reason::Unauthorized));
        }
    }

    #[test]
    fn a_bank_that_is_not_available_is_no_outage_of_eko() {
        let bank = Verdict::unclear(Cause::BankUnavailable);
        assert_eq!(health_signal(Kind::Refund, &attempts(&[]), &bank, None), HealthSignal::Fine);
    }

    #[test]
    fn a_refund_that_was_executed_though_answered_by_a_5xx_is_no_outage() {
        let unavailable = Verdict::unclear(Cause::EkoUnavailable);
        assert!(is_told_by_inquiry(Kind::Refund, &unavailable));
        assert!(!is_told_by_inquiry(Kind::RefundOtp, &unavailable), "none follows");
        assert!(!is_told_by_inquiry(Kind::Refund, &Verdict::unclear(Cause::Timeout)), "too late");
        let later = Verdict::Unclear {
            cause: Cause::EkoUnavailable,
            after: Some(Duration::from_secs(1)),
            fallback: Fallback::Repeat,
        };
        assert!(!is_told_by_inquiry(Kind::Refund, &later), "it is waited for");

        let mut history = History::new(NOW);
        history.begin(NOW, STAMP);
        history.end(NOW, unavailable);
        let signal =
            |history: &History, reading| inquiry_signal(Kind::Refund, history, &reading, None);
        let (receipt, answer) = (Receipt::default(), Answer::default());
        assert_eq!(signal(&history, Reading::Refunded(receipt, answer)), HealthSignal::Fine);
        let outage = HealthSignal::Against(Reason::Outage);
        assert_eq!(signal(&history, Reading::RefundPending), outage);
        assert_eq!(signal(&history, Reading::NoAnswer(Cause::EkoUnavailable)), outage);
        history.inquired(NOW, None, Reading::RefundPending);
        assert_eq!(
            signal(&history, Reading::RefundPending),
            HealthSignal::Fine,
            "it was told already"
        );
    }
}
