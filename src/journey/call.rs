//! The calls of a claimed command.

use super::Journey;
use super::account::account_signal;
use super::health_signal::{health_signal, inquiry_signal};
use crate::breaker::{HealthSignal, Permit, Purpose, Sample, Witness};
use crate::broker::Error;
use crate::clock::Stamp;
use crate::command::{Command, Kind};
use crate::decision::Message;
use crate::eko::Timing;
use crate::ledger::{ClaimedCommand, LeaseStatus};
use crate::order::{Acquiring, Beginning, Calling, Inquiring, Next, Order, Stamping};
use crate::otel::Call;
use crate::verdict::Reading;
use crate::worker::{Worker, clock};

impl<'a> Journey<'a> {
    /// Waits for leave for one more call.
    pub(super) async fn acquire(
        &mut self,
        acquiring: Acquiring<ClaimedCommand>,
    ) -> Order<ClaimedCommand> {
        let purpose = match acquiring.next {
            Next::Attempt => Purpose::Command(acquiring.task.kind),
            Next::Inquiry => Purpose::Inquiry,
        };
        let (worker, kind) = (self.worker, acquiring.task.kind);
        tokio::select! {
            biased;
            _ = self.reacquire(kind, purpose) => {}
            () = worker.breakers.until_hopeless(kind) => return acquiring.failed(),
        }
        // Not sooner: who waits for leave may wait for long.
        if acquiring.next == Next::Attempt && worker.breakers.is_held(kind) {
            return acquiring.held_back(&worker.conditions());
        }
        acquiring.acquired()
    }

    /// Draws the timestamp that signs an attempt.
    pub(super) async fn stamp(
        &mut self,
        stamping: Stamping<ClaimedCommand>,
    ) -> Order<ClaimedCommand> {
        let kind = stamping.task.kind;
        let stamp = self.reacquire(kind, Purpose::Command(kind)).await.stamp();
        if self.worker.breakers.is_held(kind) {
            return stamping.held_back(&self.worker.conditions());
        }
        let now = self.worker.now();
        self.began = clock();
        stamping.stamped(stamp, now)
    }

    /// A permit for the call that follows at once.
    async fn reacquire(&mut self, kind: Kind, purpose: Purpose) -> &mut Permit<'a> {
        let permit = self.worker.breakers.reacquire(kind, purpose, self.permit.take()).await;
        self.permit.insert(permit)
    }

    /// Makes the call that the ledger knows has begun. Its bytes leave within
    /// `EKO_TIMEOUT` of that or not at all: later, somebody else may have taken over. It is signed
    /// with the timestamp that the ledger knows, so that Eko refuses it when it comes too late all
    /// the same.
    ///
    /// # Errors
    /// Where there is no command to call for.
    pub(super) async fn call(
        &mut self,
        calling: Calling<ClaimedCommand>,
    ) -> Result<Order<ClaimedCommand>, Error> {
        let Some(command) = self.command else {
            return Err(Error::Lost("there is no command to call for".to_owned()));
        };
        let worker = self.worker;
        let (kind, deadline) = (command.kind(), self.began + worker.policy.call_timeout);
        // Its timestamp is recorded already.
        let permit = match &mut self.permit {
            Some(permit) => permit,
            None => self.reacquire(kind, Purpose::Command(kind)).await,
        };
        permit.begin();
        let history = &calling.claim.history;
        let span = self.received.span.call(|| Call {
            method: "POST",
            endpoint: kind.as_str(),
            url: worker.eko.url(command),
            attempt: Some(history.attempts()),
        });
        let Some(signed) = history.signed() else { return Ok(calling.unsigned()) };
        let called = {
            let opened = worker.otp_keys.opened(command);
            worker.eko.call(&opened, Timing { stamp: signed.stamp, deadline }).await
        };
        let status = called.http_status;
        let verdict = worker.in_view_of_others(command, history, called.meaning, status);
        span.answered(status, verdict.as_str());
        let skew = worker.note_skew(called.skew);
        worker.note_timestamp(kind, verdict.cause(), skew);
        let signal = health_signal(kind, history, &verdict, skew);
        let signal = account_signal(command, &verdict, signal);
        let has_failed = signal.is_overload();
        self.note_load(Sample { took: Some(called.took), has_failed });
        worker.metrics.called(kind, &verdict, called.took, called.is_known);
        tracing::debug!(
            command_id = command.id,
            kind = kind.as_str(),
            verdict = verdict.as_str(),
            http_status = status,
            took_ms = u64::try_from(called.took.as_millis()).unwrap_or(u64::MAX),
            "Eko was called"
        );
        let ended = worker.now();
        worker.breakers.saw(kind, Worker::witness(command), signal, ended.monotonic);
        worker.note_service(command, &verdict, ended);
        Ok(calling.answered(verdict, ended))
    }

    /// Inquires what became of the transaction.
    pub(super) async fn inquire(
        &mut self,
        inquiring: Inquiring<ClaimedCommand>,
    ) -> Order<ClaimedCommand> {
        match (inquiring.task.message, self.command) {
            (Message::Here, Some(command)) => self.inquire_as(command, inquiring).await,
            (Message::Here | Message::Unreadable | Message::Lost, _) => {
                let permit = self.reacquire(inquiring.task.kind, Purpose::Inquiry).await;
                permit.begin();
                let stamp = permit.stamp();
                let (order, sample) = self.worker.inquire_alone(inquiring, stamp).await;
                self.note_load(sample);
                order
            }
        }
    }

    async fn inquire_as(
        &mut self,
        command: &Command,
        inquiring: Inquiring<ClaimedCommand>,
    ) -> Order<ClaimedCommand> {
        let (kind, worker) = (command.kind(), self.worker);
        let permit = self.reacquire(kind, Purpose::Inquiry).await;
        let (asked, timing) = (worker.now(), worker.timing(permit.stamp()));
        permit.begin();
        let history = &inquiring.claim.history;
        let tid = command.tid().unwrap_or_default();
        let span = self.received.span.call(|| Call {
            method: "GET",
            endpoint: "inquiry",
            url: worker.eko.inquiry_url(tid),
            attempt: None,
        });
        let ours = worker.ours();
        let account = Worker::inquiring_account(command, history, &ours);
        let is_own_account = command.has_own_account && account == command.account();
        // Eko's text may repeat the OTP, which is then masked.
        let called = {
            let opened = worker.otp_keys.opened(command);
            worker.eko.inquire(&opened, tid, account, timing).await
        };
        span.answered(called.http_status, called.meaning.as_str());
        let skew = worker.note_skew(called.skew);
        worker.note_timestamp(kind, called.meaning.cause(), skew);
        let signal = inquiry_signal(kind, history, &called.meaning, skew);
        let has_failed = signal.is_overload();
        // How long another endpoint takes says nothing about this one.
        self.note_load(Sample { took: None, has_failed });
        worker.metrics.inquired(&called.meaning, called.took, called.is_known);
        if called.meaning == Reading::Contradictory {
            tracing::warn!(
                command_id = command.id,
                tid,
                "the answer to an inquiry contradicts itself or names another transaction: it is \
                 not believed"
            );
        }
        let witness = Witness { command_id: &command.id, is_own_choice: is_own_account };
        worker.breakers.saw(kind, witness, signal, worker.now().monotonic);
        inquiring.answered(called.meaning, called.eko_time, asked)
    }

    fn note_load(&self, sample: Sample) {
        if let Some(permit) = &self.permit {
            note_load(permit, sample);
        }
    }
}

impl Worker {
    /// Writes that a call begins: in the ledger first.
    pub(super) async fn begin(
        &self,
        beginning: Beginning<ClaimedCommand>,
    ) -> Order<ClaimedCommand> {
        // Only a tid can be asked about.
        if beginning.next == Next::Inquiry && beginning.claim.tid().is_none() {
            return beginning.begun(LeaseStatus::Lost);
        }
        match self.ledger.begin(&beginning.claim, self.lease).await {
            Ok(held) => beginning.begun(held),
            Err(error) => {
                self.pause_for_ledger(&error);
                beginning.failed()
            }
        }
    }

    /// Inquires as ourselves: its message is not at hand.
    pub(super) async fn inquire_alone(
        &self,
        inquiring: Inquiring<ClaimedCommand>,
        stamp: Stamp,
    ) -> (Order<ClaimedCommand>, Sample) {
        let (asked, timing) = (self.now(), self.timing(stamp));
        let ours = self.ours();
        let tid = inquiring.claim.tid().unwrap_or_default();
        let called = self.eko.look_up(tid, ours.account(), timing).await;
        let signal = HealthSignal::from(&called.meaning);
        self.metrics.inquired(&called.meaning, called.took, called.is_known);
        let skew = self.note_skew(called.skew);
        self.note_timestamp(inquiring.task.kind, called.meaning.cause(), skew);
        let order = inquiring.answered(called.meaning, called.eko_time, asked);
        (order, Sample { took: None, has_failed: signal.is_overload() })
    }
}

/// A call has ended and told this much about how busy Eko is.
pub(super) fn note_load(permit: &Permit<'_>, sample: Sample) {
    permit.end(sample, clock().into_std());
}
