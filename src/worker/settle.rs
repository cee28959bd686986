//! A claimed command until it ends or is parked: decide, act, keep the evidence, decide again.

use std::time::Duration;

use tokio::time::Instant;

use super::account::sight_of_account;
use super::{Error, Received, Subject, Worker, clock, random_f64};
use crate::broker::{CopyAge, Delivery, Parking};
use crate::clock::Now;
use crate::command::{Command, Kind};
use crate::decision::{self, Policy, Step, Task, Turn};
use crate::gate::{Gate, Permit, Purpose, Sample, Sight, Witness};
use crate::history::{Entry, History};
use crate::ledger::{self, Case, Held};
use crate::metrics;
use crate::otel::Call;
use crate::verdict::{Cause, Reading, Verdict};

/// What came of one step.
enum Went {
    /// There is new evidence.
    On,
    /// The claim has gone to somebody else.
    Lost,
}

impl Worker {
    /// Works on a claimed command. `begun` is when its first attempt began, if one began
    /// together with the claim.
    pub(super) async fn settle(
        &self,
        delivery: Delivery,
        command: &Command,
        received: &Received,
        mut case: Case,
        begun: Option<Instant>,
        mut permit: Option<Permit<'_>>,
    ) -> Result<(), Error> {
        let (subject, kind) = (Subject::of(command), command.kind());
        let mut turn = Turn::Ready;
        if let Some(begun) = begun {
            let mut held = self.gate.again(kind, Purpose::Command(kind), permit.take()).await;
            self.call(command, received, &mut case, begun, &mut held).await;
            permit = Some(held);
            turn = Turn::Answered;
        }
        loop {
            let now = self.now();
            let policy = self.policy_now(kind, &case.history, now);
            let task = Task::of(command);
            let step = decision::decide(task, &case.history, &policy, turn, random_f64(), now);
            // A permit is for calls: whatever ends or waits gives it back first.
            let held = permit.take();
            let went = match step {
                Step::Attempt | Step::Inquire => {
                    let is_attempt = step == Step::Attempt;
                    let purpose =
                        if is_attempt { Purpose::Command(kind) } else { Purpose::Inquiry };
                    let held = permit.insert(self.gate.again(kind, purpose, held).await);
                    match is_attempt {
                        true => self.attempt(command, received, &mut case, held).await,
                        false => self.inquire(command, received, &mut case, held).await,
                    }
                }
                Step::RetryAfter { delay, cause } => {
                    drop(held);
                    self.metrics.retried(kind, cause);
                    return self
                        .park(delivery, &subject, received, case, delay, cause, false)
                        .await;
                }
                Step::InquireAfter { delay, cause } => {
                    drop(held);
                    return self.park(delivery, &subject, received, case, delay, cause, true).await;
                }
                Step::Finish(outcome) => {
                    drop(held);
                    return self.conclude(delivery, &subject, received, case, outcome).await;
                }
            };
            match went {
                Ok(Went::On) => turn = Turn::Answered,
                Ok(Went::Lost) => return self.park_busy(delivery, &subject, received, None).await,
                Err(error) => {
                    let attempts = case.history.attempts();
                    return self.do_without_ledger(delivery, &subject, attempts, &error).await;
                }
            }
        }
    }

    /// The settings that decisions follow, with give-up times that stood still while the kind was
    /// paused.
    pub(super) fn policy_now(&self, kind: Kind, history: &History, now: Now) -> Policy {
        let age = history.age(now).likely;
        self.policy.extended(self.gate.stood_still(kind, age, now.monotonic))
    }

    /// One more call of the kind's endpoint: in the ledger first.
    async fn attempt(
        &self,
        command: &Command,
        received: &Received,
        case: &mut Case,
        permit: &mut Permit<'_>,
    ) -> Result<Went, ledger::Error> {
        let stamp = self.eko.stamp().await;
        let (began, clock) = (self.now(), clock());
        if command.expiry.is_some_and(|expiry| began.wall >= expiry) {
            // The gate has held it too long: the next decision ends it.
            return Ok(Went::On);
        }
        case.history.begin(began, stamp);
        if self.ledger.begin(case, self.lease).await? == Held::Lost {
            return Ok(Went::Lost);
        }
        self.call(command, received, case, clock, permit).await;
        Ok(Went::On)
    }

    /// Makes the call that the ledger knows has begun at `began`. Its bytes leave within
    /// `EKO_TIMEOUT` of that or not at all: later, somebody else may have taken over. It is signed
    /// with the timestamp that the ledger knows, so that Eko refuses it when it comes too late all
    /// the same.
    async fn call(
        &self,
        command: &Command,
        received: &Received,
        case: &mut Case,
        began: Instant,
        permit: &mut Permit<'_>,
    ) {
        let (kind, deadline) = (command.kind(), began + self.policy.call_timeout);
        permit.begin();
        let span = received.span.call(|| Call {
            method: "POST",
            endpoint: kind.as_str(),
            url: self.eko.url(command),
            attempt: Some(case.history.attempts()),
        });
        let Some(signed) = case.history.signed() else {
            return;
        };
        let called = self.eko.call(command, signed.stamp, deadline).await;
        let status = called.http_status;
        let verdict = self.in_view_of_others(command, &case.history, called.meaning, status);
        span.answered(status, verdict.as_str());
        let sight = sight(kind, &case.history, &verdict, called.skew);
        let sight = sight_of_account(command, &verdict, sight);
        let has_failed = sight.is_strain();
        self.note_load(kind, permit, Sample { took: Some(called.took), has_failed });
        self.metrics.called(kind, &verdict, called.took, called.is_known);
        self.note_skew(called.skew);
        tracing::debug!(
            command_id = command.id,
            kind = kind.as_str(),
            verdict = verdict.as_str(),
            http_status = status,
            took_ms = u64::try_from(called.took.as_millis()).unwrap_or(u64::MAX),
            "Eko was called"
        );
        let ended = self.now();
        self.gate.saw(kind, Self::witness(command), sight, ended.monotonic);
        self.note_service(command, &verdict, ended);
        case.history.end(ended, verdict);
    }

    /// Inquires what became of the transaction; what is known so far is kept first.
    async fn inquire(
        &self,
        command: &Command,
        received: &Received,
        case: &mut Case,
        permit: &mut Permit<'_>,
    ) -> Result<Went, ledger::Error> {
        let Some(tid) = command.tid() else {
            return Ok(Went::Lost);
        };
        if self.ledger.begin(case, self.lease).await? == Held::Lost {
            return Ok(Went::Lost);
        }
        let (asked, clock) = (self.now(), clock());
        let deadline = clock + self.policy.call_timeout;
        permit.begin();
        let span = received.span.call(|| Call {
            method: "GET",
            endpoint: "inquiry",
            url: self.eko.inquiry_url(tid),
            attempt: None,
        });
        let ours = self.ours();
        let account = Self::inquiring_account(command, &case.history, &ours);
        let is_own_account = command.has_own_account && account == command.account();
        let called = self.eko.inquire(command, tid, account, deadline).await;
        span.answered(called.http_status, called.meaning.as_str());
        let sight = sight_of_inquiry(command.kind(), &case.history, &called.meaning, called.skew);
        let has_failed = sight.is_strain();
        // How long another endpoint takes says nothing about this one.
        self.note_load(command.kind(), permit, Sample { took: None, has_failed });
        self.metrics.inquired(&called.meaning, called.took, called.is_known);
        self.note_skew(called.skew);
        if called.meaning == Reading::Contradictory {
            tracing::warn!(
                command_id = command.id,
                tid,
                "an inquiry contradicts itself or tells of another transaction"
            );
        }
        let witness = Witness { command_id: &command.id, is_own_account };
        self.gate.saw(command.kind(), witness, sight, self.now().monotonic);
        // A reading counts from when it was asked for: what it says may be that old.
        case.history.inquired(asked, called.eko_time, called.meaning);
        Ok(Went::On)
    }

    pub(super) fn note_load(&self, kind: Kind, permit: &Permit<'_>, sample: Sample) {
        let limit = permit.end(sample, clock().into_std());
        self.metrics.limited(kind, limit);
    }

    /// Eko's clock less ours, where its answer told it.
    pub(super) fn note_skew(&self, skew: Option<f64>) {
        let Some(skew) = skew else { return };
        self.metrics.skewed(skew);
        if self.gate.saw_clock(skew, self.now()) {
            tracing::error!(
                skew_seconds = skew,
                "Eko's clock and ours are too far apart: it would soon refuse our timestamps"
            );
        }
    }

    /// Keeps what is known, then puts a copy where it waits, then acknowledges.
    #[expect(clippy::too_many_arguments, reason = "all of it stands in the parked copy")]
    async fn park(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        mut case: Case,
        delay: Duration,
        cause: Cause,
        unsettled: bool,
    ) -> Result<(), Error> {
        let now = self.now();
        case.history.measure(now);
        match self.ledger.note(&case, delay, unsettled).await {
            Ok(Held::Yes) => {}
            Ok(Held::Lost) => return self.park_busy(delivery, subject, received, None).await,
            Err(error) => {
                let attempts = case.history.attempts();
                return self.do_without_ledger(delivery, subject, attempts, &error).await;
            }
        }
        let kind = metrics::label(subject.kind);
        let parked = case.parked.saturating_add(1);
        tracing::info!(
            command_id = subject.command_id,
            kind,
            reason = cause.as_str(),
            attempts = case.history.attempts(),
            delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            trace_id = received.trace.id(),
            "command parked"
        );
        let parking = Parking {
            delay,
            kind: subject.kind,
            reason: cause.as_str(),
            attempts: case.history.attempts(),
            parked,
            first_received: case.history.first_received,
            age: Some(CopyAge::of(&case.history, now)),
            traceparent: Some(&received.traceparent()),
        };
        received.span.parked(cause.as_str());
        // Where no queue takes it, its message is in hand for longer than its row says.
        let _waits = self.waiting.note(&case.id);
        delivery.park(parking).await?;
        // Without this note the copies are parked once more: nothing is lost with it.
        if let Err(error) = self.ledger.parked(&case.id, parked).await {
            self.close_for_ledger(&error);
        }
        Ok(())
    }
}

/// What a call tells about Eko as a whole. One timestamp that is refused may have been another
/// worker's with the same key, in the same millisecond; a second in a row is our clock's fault.
fn sight(kind: Kind, history: &History, verdict: &Verdict, skew: Option<f64>) -> Sight {
    let is_refused = |verdict: &Verdict| verdict.cause() == Some(Cause::Clock);
    let before = history.each_attempt().rev().nth(1).and_then(|attempt| attempt.ended.as_ref());
    let is_first = !before.is_some_and(|ended| is_refused(&ended.verdict));
    let is_no_fault = is_refused(verdict) && (is_first || is_right(skew));
    match is_no_fault || is_told_by_inquiry(kind, verdict) {
        true => Sight::Nothing,
        false => verdict.into(),
    }
}

/// Whether the answer shows that our clock is right: then a refused timestamp was used before, by
/// another worker with the same key or by a proxy that sent the call twice.
fn is_right(skew: Option<f64>) -> bool {
    skew.is_some_and(Gate::is_right)
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
fn sight_of_inquiry(kind: Kind, history: &History, reading: &Reading, skew: Option<f64>) -> Sight {
    let last = history.each_attempt().next_back().and_then(|attempt| attempt.ended.as_ref());
    let last = last.map(|ended| &ended.verdict);
    let is_next = matches!(history.entries.last(), Some(Entry::Attempt(_)));
    match (last, reading) {
        (_, Reading::NoAnswer(Cause::Clock)) if is_right(skew) => Sight::Nothing,
        (_, Reading::NoAnswer(_) | Reading::Refunded(..)) => reading.into(),
        (Some(verdict), _) if is_next && is_told_by_inquiry(kind, verdict) => verdict.into(),
        (Some(verdict), _) if kind == Kind::Refund && Sight::from(verdict).is_fault_of_ours() => {
            Sight::Nothing
        }
        _ => reading.into(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::clock::Stamp;
    use crate::gate::Reason;
    use crate::outcome::{Answer, Receipt};
    use crate::verdict::IfNot;

    const NOW: Now = Now { wall: Timestamp::UNIX_EPOCH, process: 1, monotonic: Duration::ZERO };
    const STAMP: Stamp = Stamp { at: 0, age: Duration::ZERO };

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
            let sight = |before: &[&Verdict], verdict, skew| {
                sight(Kind::Refund, &attempts(before), verdict, skew)
            };
            assert_eq!(sight(&[], &clock, None), Sight::Nothing);
            assert_eq!(sight(&[&clock], &clock, None), Sight::Against(Reason::Clock));
            assert_eq!(sight(&[&clock], &clock, Some(-91.0)), Sight::Against(Reason::Clock));
            assert_eq!(sight(&[&clock], &clock, Some(90.0)), Sight::Nothing, "our clock is right");
            let unauthorized = Sight::Against(Reason::Unauthorized);
            assert_eq!(sight(&[&clock], &keys, Some(0.0)), unauthorized);
        }
    }

    #[test]
    fn an_inquiry_whose_timestamp_is_refused_tells_nothing_while_our_clock_is_right() {
        let history = attempts(&[]);
        let refused = Reading::NoAnswer(Cause::Clock);
        let sight = |skew| sight_of_inquiry(Kind::Refund, &history, &refused, skew);
        assert_eq!(sight(Some(1.0)), Sight::Nothing);
        assert_eq!(sight(Some(100.0)), Sight::Against(Reason::Clock));
        assert_eq!(sight(None), Sight::Against(Reason::Clock));
    }

    #[test]
    fn an_inquiry_that_goes_well_does_not_clear_the_refund_endpoint() {
        for cause in [Cause::Unauthorized, Cause::Misconfigured, Cause::Clock] {
            let mut history = History::new(NOW);
            history.begin(NOW, STAMP);
            history.end(NOW, Verdict::unclear(cause));
            let sight = |history: &History, reading| {
                sight_of_inquiry(Kind::Refund, history, &reading, None)
            };
            assert_eq!(sight(&history, Reading::RefundPending), Sight::Nothing);
            history.inquired(NOW, None, Reading::RefundPending);
            assert_eq!(sight(&history, Reading::RefundPending), Sight::Nothing, "nor a later one");
            let refunded = Reading::Refunded(Receipt::default(), Answer::default());
            assert_eq!(sight(&history, refunded), Sight::Fine);
            let away = Reading::NoAnswer(Cause::Unauthorized);
            assert_eq!(sight(&history, away), Sight::Against(Reason::Unauthorized));
        }
    }

    #[test]
    fn a_bank_that_is_not_available_is_no_outage_of_eko() {
        let bank = Verdict::unclear(Cause::BankUnavailable);
        assert_eq!(sight(Kind::Refund, &attempts(&[]), &bank, None), Sight::Fine);
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
            if_not: IfNot::Repeat,
        };
        assert!(!is_told_by_inquiry(Kind::Refund, &later), "it is waited for");

        let mut history = History::new(NOW);
        history.begin(NOW, STAMP);
        history.end(NOW, unavailable);
        let sight =
            |history: &History, reading| sight_of_inquiry(Kind::Refund, history, &reading, None);
        let (receipt, answer) = (Receipt::default(), Answer::default());
        assert_eq!(sight(&history, Reading::Refunded(receipt, answer)), Sight::Fine);
        let outage = Sight::Against(Reason::Outage);
        assert_eq!(sight(&history, Reading::RefundPending), outage);
        assert_eq!(sight(&history, Reading::NoAnswer(Cause::EkoUnavailable)), outage);
        history.inquired(NOW, None, Reading::RefundPending);
        assert_eq!(sight(&history, Reading::RefundPending), Sight::Fine, "it was told already");
    }
}
