use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::backoff::Backoff;
use crate::clock::{Now, Stamp};
use crate::command::Kind;
use crate::decision::{Message, Policy, Task};
use crate::event::{About, Event};
use crate::history::History;
use crate::outcome::{Answer, Code, Outcome, Problem, Receipt};
use crate::trace::Trace;
use crate::verdict::{Cause, Reading, Verdict};

const NOW: Now = Now { wall: Timestamp::UNIX_EPOCH, process: 1, monotonic: Duration::ZERO };
const STAMP: Stamp = Stamp { at: 0, lead: 0 };
const NOTHING: Owed = Owed { event: false, dead_letter: false };

/// A claimed command without a ledger.
#[derive(Clone, Debug)]
struct ClaimedCommand {
    history: History,
    interruptions: u32,
}

impl Claimed for ClaimedCommand {
    fn history(&self) -> &History {
        &self.history
    }

    fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    fn parked(&self) -> u32 {
        3
    }

    fn interruptions(&self) -> u32 {
        self.interruptions
    }

    fn kind(&self) -> Option<Kind> {
        Some(Kind::Refund)
    }

    fn was_asked_by(&self, digest: &str) -> bool {
        digest == "own"
    }
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn policy() -> Policy {
    let backoff = Backoff { initial: seconds(4), max: seconds(60) };
    Policy {
        retry: backoff,
        give_up_otp: seconds(600),
        give_up_refund: seconds(600),
        otp_resend_spacing: seconds(60),
        settle: backoff,
        settle_quiet: seconds(30),
        settle_give_up: seconds(600),
        refund_max_attempts: 2,
        preflight: false,
        call_timeout: seconds(30),
        stamp_tolerance: seconds(120),
    }
}

const TASK: Task = Task { kind: Kind::Refund, expiry: None, message: Message::Here };

const DELIVERED: Delivered = Delivered {
    parked: 2,
    attempts: 1,
    is_redelivered: false,
    age: None,
    refused: None,
    expiry: None,
};

fn case() -> ClaimedCommand {
    ClaimedCommand { history: History::new(NOW), interruptions: 0 }
}

fn begun() -> ClaimedCommand {
    let mut case = case();
    case.history.begin(NOW, STAMP);
    case
}

fn event(outcome: &Outcome) -> Event {
    let about = About {
        command_id: "a",
        event_id: "a",
        kind: Some(Kind::Refund),
        subject: None,
        correlation_id: None,
        attempts: 1,
        trace: &Trace::new(1),
        span: 1,
    };
    Event::new(&about, outcome, NOW.wall)
}

/// What is to be done next must be this.
macro_rules! expect {
    ($order:expr, $state:ident) => {
        match $order {
            Order::$state(state) => state,
            other => panic!("expected {}, got {other:?}", stringify!($state)),
        }
    };
}

fn claiming(delivered: Delivered) -> Claiming {
    let entering =
        expect!(Order::<ClaimedCommand>::receive(TASK, delivered, &policy(), NOW), Enter);
    expect!(entering.entered::<ClaimedCommand>(), Claim)
}

fn claimed(claim: Claim<ClaimedCommand>) -> Order<ClaimedCommand> {
    claiming(DELIVERED).claimed(claim)
}

fn decided(order: Order<ClaimedCommand>) -> Order<ClaimedCommand> {
    let policy = policy();
    let conditions = Conditions { policy: &policy, now: NOW, jitter: 0.5 };
    match order {
        Order::Decide(deciding) => deciding.decided(&conditions),
        Order::Wait(waiting) => waiting.decided(&conditions),
        other => panic!("nothing is to be decided: {other:?}"),
    }
}

fn done() -> Verdict {
    Verdict::Done(Receipt::default(), Answer::default())
}

#[test]
fn an_attempt_that_began_with_the_claim_is_made_told_and_acknowledged() {
    let calling = expect!(claimed(Claim::Fresh(begun())), Call);
    let finishing = expect!(decided(calling.answered(done(), NOW)), Finish);
    assert!(!finishing.ending.is_untold());
    let event = event(&finishing.outcome);
    let publishing =
        expect!(finishing.ending.finished::<ClaimedCommand>(LeaseStatus::Held, event), Publish);
    assert_eq!(publishing.owed, Owed { event: true, dead_letter: false });
    let acknowledging = expect!(publishing.published::<ClaimedCommand>(NOTHING), Acknowledge);
    assert_eq!(expect!(acknowledging.acknowledged::<ClaimedCommand>(), End), End::Over);
}

#[test]
fn a_call_begins_in_the_ledger_with_the_timestamp_that_signs_it() {
    let acquiring = expect!(decided(claimed(Claim::Due(case()))), Acquire);
    let stamping = expect!(acquiring.acquired(), Stamp);
    let beginning = expect!(stamping.stamped(STAMP, NOW), Begin);
    assert!(beginning.claim.history.in_flight());
    expect!(beginning.begun(LeaseStatus::Held), Call);
}

#[test]
fn an_attempt_that_is_held_back_is_not_begun_and_waits_with_all_that_is_known() {
    let acquiring = expect!(decided(claimed(Claim::Due(case()))), Acquire);
    let policy = policy();
    let conditions = Conditions { policy: &policy, now: NOW, jitter: 0.5 };
    let noting = expect!(acquiring.held_back(&conditions), Note);
    assert_eq!((noting.claim.history.attempts(), noting.unsettled), (0, false));
    assert_eq!((noting.reason, noting.due_in()), (Reason::Paused, policy.retry.initial));
    let parking = expect!(noting.noted(LeaseStatus::Held), Park);
    assert_eq!((parking.copy.reason, parking.copy.parked), (Reason::Paused, 4));
    expect!(parking.parked::<ClaimedCommand>(Placed::Yes), Acknowledge);
    // It comes back, and goes on where it stopped.
    let next = expect!(decided(claimed(Claim::Due(case()))), Acquire).next;
    assert_eq!(next, Next::Attempt);
}

#[test]
fn what_has_expired_while_it_waited_for_leave_is_not_begun() {
    let later = Now { wall: "1970-01-01T00:00:10Z".parse().unwrap(), ..NOW };
    let task = Task { expiry: Some("1970-01-01T00:00:05Z".parse().unwrap()), ..TASK };
    let acquiring =
        Acquiring { claim: case(), task, next: Next::Attempt, source: Source::Message(DELIVERED) };
    let stamping = expect!(acquiring.acquired(), Stamp);
    let deciding = expect!(stamping.stamped(STAMP, later), Decide);
    assert_eq!(deciding.claim.history.attempts(), 0);
}

#[test]
fn a_claim_that_is_lost_leads_to_a_copy_that_looks_again() {
    let acquiring = expect!(decided(claimed(Claim::Interrupted(begun()))), Acquire);
    assert_eq!(acquiring.next, Next::Inquiry, "it may have been executed");
    let beginning = expect!(acquiring.acquired(), Begin);
    let copy = expect!(decided(beginning.begun(LeaseStatus::Lost)), Park).copy;
    assert_eq!((copy.reason, copy.parked), (Reason::Busy, 3));
    assert_eq!(copy.attempts, 1, "what the delivery has shown");
}

#[test]
fn a_copy_waits_no_longer_than_until_the_deadline_or_the_other_claim_s_end() {
    let delay = |expiry: Option<&str>, wait| {
        let expiry = expiry.map(|expiry| expiry.parse().unwrap());
        let claim = Claim::<ClaimedCommand>::Busy { wait };
        let order = claiming(Delivered { expiry, ..DELIVERED }).claimed(claim);
        expect!(decided(order), Park).copy.delay
    };
    let again = delay(None, None);
    assert!(again > seconds(2));
    assert_eq!(delay(None, Some(seconds(1))), seconds(1));
    assert_eq!(delay(Some("1970-01-01T00:00:02Z"), None), seconds(2));
    assert_eq!(delay(Some("1971-01-01T00:00:02Z"), None), again);
}

#[test]
fn a_ledger_that_fails_leads_to_a_copy_that_tells_the_attempts() {
    let calling = expect!(claimed(Claim::Fresh(begun())), Call);
    let order = calling.answered(Verdict::unclear(Cause::Timeout), NOW);
    let acquiring = expect!(decided(order), Acquire);
    let copy = expect!(decided(expect!(acquiring.acquired(), Begin).failed()), Park).copy;
    assert_eq!((copy.reason, copy.attempts, copy.parked), (Reason::Ledger, 1, 2));
    assert_eq!(copy.delay, policy().retry.initial);
}

#[test]
fn the_ledger_learns_of_a_copy_only_once_it_is_safe_and_acknowledged() {
    let parking = || {
        let calling = expect!(claimed(Claim::Fresh(begun())), Call);
        let order = decided(calling.answered(Verdict::not_now(Cause::Network), NOW));
        let noting = expect!(order, Note);
        assert_eq!((noting.due_in(), noting.unsettled), (noting.delay, false));
        expect!(noting.noted(LeaseStatus::Held), Park)
    };
    assert_eq!(parking().copy.reason, Reason::Retry(Cause::Network));
    let acknowledging = expect!(parking().parked::<ClaimedCommand>(Placed::Yes), Acknowledge);
    assert_eq!(expect!(acknowledging.acknowledged::<ClaimedCommand>(), NoteParked).parked, 4);
    let requeuing = expect!(parking().parked::<ClaimedCommand>(Placed::No), Requeue);
    assert_eq!(expect!(requeuing.requeued::<ClaimedCommand>(), End), End::Over);
}

#[test]
fn what_a_queue_refuses_waits_and_the_dead_letter_is_noted() {
    let outcome = Outcome::Failed(Problem::new(Code::Timeout, "given up"));
    let refused = Owed { event: true, dead_letter: false };
    let published = || {
        let source = Source::Message(DELIVERED);
        let finishing = Finishing::new(case(), outcome.clone(), Subject::Command, source);
        let ending = finishing.ending;
        assert!(ending.is_untold());
        let publishing =
            expect!(ending.finished::<ClaimedCommand>(LeaseStatus::Held, event(&outcome)), Publish);
        assert_eq!(publishing.owed, Owed { event: true, dead_letter: true });
        expect!(publishing.published::<ClaimedCommand>(refused), ParkRefused)
    };
    let acknowledging = expect!(published().parked::<ClaimedCommand>(Placed::Yes), Acknowledge);
    expect!(acknowledging.acknowledged::<ClaimedCommand>(), NotePublished);
    let requeuing = expect!(published().parked::<ClaimedCommand>(Placed::No), Requeue);
    expect!(requeuing.requeued::<ClaimedCommand>(), NotePublished);
    // Nobody has a copy: the ledger must go on saying that the event is not published.
    let acknowledging = expect!(published().parked::<ClaimedCommand>(Placed::Left), Acknowledge);
    assert!(acknowledging.published.is_some(), "what was refused is counted");
    assert_eq!(expect!(acknowledging.acknowledged::<ClaimedCommand>(), End), End::Over);
}

#[test]
fn a_copy_that_waited_for_a_refused_event_is_owed_just_that() {
    let owed = |refused, is_untold| {
        let event = Box::new(event(&Outcome::Failed(Problem::new(Code::Timeout, "given up"))));
        let claim = Claim::<ClaimedCommand>::Finished { event, is_untold };
        let order = claiming(Delivered { refused, ..DELIVERED }).claimed(claim);
        expect!(order, Publish).owed
    };
    let (event, dead_letter) =
        (Owed { event: true, ..NOTHING }, Owed { dead_letter: true, ..NOTHING });
    assert_eq!(owed(None, false), event);
    assert_eq!(owed(None, true), Owed { event: true, dead_letter: true });
    assert_eq!(owed(Some(event), false), event);
    assert_eq!(owed(Some(dead_letter), false), dead_letter);
}

#[test]
fn a_command_that_the_worker_died_over_too_often_is_given_up() {
    let worn =
        |history| Claim::Interrupted(ClaimedCommand { history, interruptions: MAX_INTERRUPTIONS });
    let finishing = expect!(claimed(worn(begun().history)), Finish);
    assert!(matches!(finishing.outcome, Outcome::Unresolved(_)));
    let finishing = expect!(claimed(worn(case().history)), Finish);
    assert!(matches!(finishing.outcome, Outcome::Failed(_)));
}

#[test]
fn what_cannot_be_read_is_inquired_and_never_called() {
    let invalid = |digest: &str| {
        let outcome = Outcome::Invalid(Problem::new(Code::InvalidCommand, "no tid"));
        let elsewhere = Problem::new(Code::Misconfigured, "begun elsewhere");
        let unknown = Unknown::Ends(Outcome::Unresolved(elsewhere));
        let asking = Asking::Invalid { digest: digest.to_owned(), outcome, unknown };
        expect!(Order::<ClaimedCommand>::receive_invalid(asking, DELIVERED), Claim)
    };
    let noting = expect!(decided(invalid("other").claimed(Claim::Due(case()))), Note);
    assert_eq!(noting.due_in(), Duration::ZERO, "the command's own copy does not wait for it");
    let copy = expect!(noting.noted(LeaseStatus::Held), Park).copy;
    assert_eq!((copy.reason, copy.parked), (Reason::Busy, 2), "it replaces none");
    let acquiring = expect!(decided(invalid("other").claimed(Claim::Due(begun()))), Acquire);
    assert_eq!(acquiring.next, Next::Inquiry);

    let finishing = expect!(invalid("own").claimed(Claim::Due(case())), Finish);
    assert_eq!(finishing.ending.subject, Subject::Message);
    let claiming = expect!(invalid("other").claimed(Claim::<ClaimedCommand>::Unknown), Claim);
    let Asking::Refusal { outcome: Outcome::Unresolved(_), is_reused: false } = claiming.asking
    else {
        panic!("{claiming:?}");
    };
}

#[test]
fn what_only_our_setup_keeps_from_being_read_waits_unless_the_ledger_knows_it() {
    let asked = |claim| {
        let outcome = Outcome::Invalid(Problem::new(Code::InvalidCommand, "no key"));
        let asking =
            Asking::Invalid { digest: "other".to_owned(), outcome, unknown: Unknown::Waits };
        expect!(Order::<ClaimedCommand>::receive_invalid(asking, DELIVERED), Claim).claimed(claim)
    };
    let copy = expect!(decided(asked(Claim::Unknown)), Park).copy;
    assert_eq!(copy.reason, Reason::Retry(Cause::Misconfigured));
    assert_eq!((copy.parked, copy.attempts), (DELIVERED.parked + 1, DELIVERED.attempts));
    let acquiring = expect!(decided(asked(Claim::Due(begun()))), Acquire);
    assert_eq!(acquiring.next, Next::Inquiry);
}

#[test]
fn another_command_s_id_is_told_under_a_longer_one() {
    let claiming = expect!(claimed(Claim::Conflict), Claim);
    assert!(matches!(claiming.asking, Asking::Refusal { is_reused: true, .. }));
    let finishing = expect!(claiming.claimed(Claim::Fresh(case())), Finish);
    assert!(matches!(finishing.outcome, Outcome::Invalid(_)));
}

#[test]
fn a_command_without_its_message_is_inquired_and_told_without_an_acknowledgement() {
    let orphan = |claim| {
        expect!(Order::<ClaimedCommand>::settle_orphan(Some(Kind::Refund)), Claim).claimed(claim)
    };
    let acquiring = expect!(decided(orphan(Claim::Interrupted(begun()))), Acquire);
    let inquiring = expect!(expect!(acquiring.acquired(), Begin).begun(LeaseStatus::Held), Inquire);
    let refunded = Reading::Refunded(Receipt::default(), Answer::default());
    let finishing = expect!(decided(inquiring.answered(refunded, None, NOW)), Finish);
    assert!(finishing.ending.is_untold(), "nobody else tells it");
    let event = event(&finishing.outcome);
    let publishing =
        expect!(finishing.ending.finished::<ClaimedCommand>(LeaseStatus::Held, event), Publish);
    let noting = expect!(publishing.published::<ClaimedCommand>(NOTHING), NotePublished);
    expect!(noting.noted::<ClaimedCommand>(), End);

    let finishing = expect!(decided(orphan(Claim::Due(case()))), Finish);
    assert!(matches!(finishing.outcome, Outcome::Failed(_)), "it was never called");
    assert_eq!(expect!(orphan(Claim::Early { wait: seconds(1) }), End), End::DueAgain);
    assert_eq!(expect!(orphan(Claim::Unknown), End), End::Over);
}
