//! Commands whose message is not at hand: settled from what the ledger knows of them, by
//! inquiries, which need the tid and our own initiator, and no OTP.

use std::time::Duration;

use super::tell::Copy;
use super::{
    Error, Received, Subject, Worker, clock, random_f64, random_u32, random_u64, random_u128,
};
use crate::broker::{CopyAge, Delivery, Teller};
use crate::command::{Account, Kind};
use crate::decision::{self, Message, Step, Task, Turn};
use crate::event::{About, Event};
use crate::gate::{Permit, Purpose, Sample, Sight};
use crate::ledger::{self, Ask, Case, Claim, Held};
use crate::metrics;
use crate::outcome::{Code, Outcome, Problem};
use crate::trace::Trace;

/// How far a command came without its message.
pub(super) enum Alone {
    /// It is not known yet what became of it.
    Waits { delay: Duration, unsettled: bool },
    /// It has ended.
    Ends(Outcome),
    /// The claim has gone to somebody else.
    Lost,
}

/// What keeps an orphan from being settled.
enum Failed {
    Ledger(ledger::Error),
    Broker(Error),
}

impl From<ledger::Error> for Failed {
    fn from(error: ledger::Error) -> Self {
        Self::Ledger(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Broker(error)
    }
}

/// What became of a command that was looked at without its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Looked {
    /// It is to be looked at again, once it is due.
    Waits,
    /// It has ended and is told, or somebody else has it.
    Over,
}

impl Worker {
    /// A copy that cannot be read any more, of a command that the ledger has begun: what is
    /// missing is a setting of ours, and no fault of the command.
    pub(super) async fn settle_unreadable(
        &self,
        delivery: Delivery,
        subject: &Subject<'_>,
        received: &Received,
        mut case: Case,
    ) -> Result<(), Error> {
        let kind = Kind::from_name(case.kind());
        let subject = Subject { kind, subject: None, ..*subject };
        let task = Task::without(Message::Unreadable, kind.unwrap_or(Kind::Refund));
        match self.settle_alone(task, &mut case).await {
            Ok(Alone::Waits { delay, unsettled }) => {
                self.wait_unreadable(delivery, (&subject, received), case, (delay, unsettled)).await
            }
            Ok(Alone::Ends(outcome)) => {
                let tid = case.tid().map(str::to_owned);
                let subject = Subject { subject: tid.as_deref(), ..subject };
                self.conclude(delivery, &subject, received, case, outcome).await
            }
            Ok(Alone::Lost) => self.park_busy(delivery, &subject, received, None).await,
            Err(error) => {
                let attempts = case.history.attempts();
                self.do_without_ledger(delivery, &subject, attempts, &error).await
            }
        }
    }

    /// What is known is kept, and the copy waits as it came: whether it is the command's own copy
    /// cannot be read, so it must not replace that one.
    async fn wait_unreadable(
        &self,
        delivery: Delivery,
        (subject, received): (&Subject<'_>, &Received),
        mut case: Case,
        (delay, unsettled): (Duration, bool),
    ) -> Result<(), Error> {
        let now = self.now();
        case.history.measure(now);
        // The command stays as due as it was: its own copy must not wait for this one.
        match self.ledger.note(&case, Duration::ZERO, unsettled).await {
            Ok(Held::Yes) => {}
            Ok(Held::Lost) => return self.park_busy(delivery, subject, received, None).await,
            Err(error) => {
                let attempts = case.history.attempts();
                return self.do_without_ledger(delivery, subject, attempts, &error).await;
            }
        }
        let age = Some(CopyAge::of(&case.history, now));
        let copy = Copy { delay, parked: delivery.envelope().parked, age };
        self.park_copy(delivery, subject, received, copy).await
    }

    /// Claims a command by its id alone.
    async fn claim_alone(&self, id: &str, kind: &'static str) -> Result<Claim, ledger::Error> {
        let ask = Ask::known(id, kind, self.now(), self.lease);
        self.ledger.claim(ask, random_u32()).await
    }

    /// Settles a claimed command as far as that goes now.
    pub(super) async fn settle_alone(
        &self,
        task: Task,
        case: &mut Case,
    ) -> Result<Alone, ledger::Error> {
        let mut turn = Turn::Ready;
        let mut held: Option<Permit<'_>> = None;
        loop {
            let now = self.now();
            let policy = self.policy_now(task.kind, &case.history, now);
            let step = decision::decide(task, &case.history, &policy, turn, random_f64(), now);
            match step {
                Step::Inquire => {
                    let mut permit =
                        self.gate.again(task.kind, Purpose::Inquiry, held.take()).await;
                    if self.inquire_alone(task.kind, case, &mut permit).await? == Held::Lost {
                        return Ok(Alone::Lost);
                    }
                    held = Some(permit);
                    turn = Turn::Answered;
                }
                // Without its message nothing is called: whoever decides knows that.
                Step::Attempt => return Ok(Alone::Lost),
                Step::RetryAfter { delay, .. } => {
                    return Ok(Alone::Waits { delay, unsettled: false });
                }
                Step::InquireAfter { delay, .. } => {
                    return Ok(Alone::Waits { delay, unsettled: true });
                }
                Step::Finish(outcome) => return Ok(Alone::Ends(outcome)),
            }
        }
    }

    /// Settles a command whose message never came back, as far as that goes now.
    ///
    /// # Errors
    /// Where the broker did not take its event: it stays untold, and is told later.
    pub(crate) async fn settle_orphan(
        &self,
        id: &str,
        kind: Option<Kind>,
        teller: &Teller,
    ) -> Result<Looked, Error> {
        match self.claim_alone(id, metrics::label(kind)).await {
            Ok(Claim::Due(case) | Claim::Interrupted(case)) => {
                let settled = self.settle_claimed(kind, case, teller).await;
                self.unless_ledger_failed(settled)
            }
            Ok(Claim::Finished { event, is_untold: true }) => {
                self.tell_orphan(kind, &event, teller).await.map(|()| Looked::Over)
            }
            Ok(Claim::Busy { .. } | Claim::Early { .. }) => Ok(Looked::Waits),
            Ok(
                Claim::Finished { is_untold: false, .. }
                | Claim::Unknown
                | Claim::Fresh(_)
                | Claim::Refunded(..)
                | Claim::Stale
                | Claim::Conflict,
            ) => Ok(Looked::Over),
            Err(error) => {
                self.close_for_ledger(&error);
                Ok(Looked::Waits)
            }
        }
    }

    fn unless_ledger_failed(&self, settled: Result<Looked, Failed>) -> Result<Looked, Error> {
        match settled {
            Ok(looked) => Ok(looked),
            Err(Failed::Broker(error)) => Err(error),
            Err(Failed::Ledger(error)) => {
                self.close_for_ledger(&error);
                Ok(Looked::Waits)
            }
        }
    }

    async fn settle_claimed(
        &self,
        kind: Option<Kind>,
        mut case: Case,
        teller: &Teller,
    ) -> Result<Looked, Failed> {
        let outcome = match kind {
            None => Outcome::Invalid(Problem::new(Code::MessageLost, "the message is lost")),
            Some(kind) => {
                let task = Task::without(Message::Lost, kind);
                match self.settle_alone(task, &mut case).await? {
                    Alone::Lost => return Ok(Looked::Over),
                    Alone::Waits { delay, unsettled } => {
                        case.history.measure(self.now());
                        self.ledger.note(&case, delay, unsettled).await?;
                        return Ok(Looked::Waits);
                    }
                    Alone::Ends(outcome) => outcome,
                }
            }
        };
        let about = About {
            command_id: &case.id,
            event_id: &case.id,
            kind,
            subject: case.tid(),
            correlation_id: None,
            attempts: case.history.attempts(),
            trace: &Trace::new(random_u128()),
            span: random_u64(),
        };
        let event = Event::new(&about, &outcome, self.now().wall);
        let tid = case.tid().map(str::to_owned);
        if self.ledger.finish(case, &event, true).await? == Held::Lost {
            return Ok(Looked::Over);
        }
        tracing::warn!(
            command_id = event.command_id,
            kind = metrics::label(kind),
            tid,
            outcome = event.outcome,
            code = event.code,
            "a command's message never came back from the broker: it is settled from the ledger"
        );
        self.metrics.orphaned(kind, &event.outcome);
        self.tell_orphan(kind, &event, teller).await?;
        Ok(Looked::Over)
    }

    /// Tells an end that nobody else will tell: its message is gone.
    async fn tell_orphan(
        &self,
        kind: Option<Kind>,
        event: &Event,
        teller: &Teller,
    ) -> Result<(), Error> {
        let told = teller.tell(event).await.inspect_err(|error| {
            if matches!(error, Error::Refused { .. } | Error::Unconfirmed { .. }) {
                self.refused(kind, event);
            }
        })?;
        self.metrics.told(kind, told.took, told.is_unrouted);
        if self.counted.insert(&event.id) {
            self.metrics.finished(kind, &event.outcome, Duration::ZERO);
        }
        self.note_told(event).await;
        Ok(())
    }

    async fn inquire_alone(
        &self,
        kind: Kind,
        case: &mut Case,
        permit: &mut Permit<'_>,
    ) -> Result<Held, ledger::Error> {
        let Some(tid) = case.tid().map(str::to_owned) else { return Ok(Held::Lost) };
        if self.ledger.begin(case, self.lease).await? == Held::Lost {
            return Ok(Held::Lost);
        }
        let (asked, deadline) = (self.now(), clock() + self.policy.call_timeout);
        permit.begin();
        let ours = self.ours();
        let Account { initiator_id, user_code } = ours.account();
        let called = self.eko.look_up_until(&tid, initiator_id, user_code, deadline).await;
        let sight = Sight::from(&called.meaning);
        self.note_load(kind, permit, Sample { took: None, has_failed: sight.is_strain() });
        self.metrics.inquired(&called.meaning, called.took, called.is_known);
        self.note_skew(called.skew);
        case.history.inquired(asked, called.eko_time, called.meaning);
        Ok(Held::Yes)
    }
}
