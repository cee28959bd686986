//! The pure path of one refund, piece by piece: no broker, ledger or network.

use std::time::Duration;

use jiff::Timestamp;

use crate::call::Call;
use eko_core::backoff::Backoff;
use eko_core::clock::{Now, Stamp};
use eko_core::command::{self, Command, Defaults};
use eko_core::decision::{self, Conditions, Policy, Step, Task, Trigger};
use eko_core::event::{About, Event};
use eko_core::history::History;
use eko_core::outcome::Outcome;
use eko_core::privacy::Mobile;
use eko_core::trace::Trace;

/// Every piece of the pure path over one and the same refund. Nothing in it is drawn or read
/// from a clock: equal runs do equal work.
pub struct Refund {
    message: &'static [u8],
    defaults: Defaults,
    policy: Policy,
    call: Call,
    command: Command,
    answered: History,
    outcome: Outcome,
    trace: Trace,
    now: Now,
}

impl Refund {
    /// Takes a command and Eko's answer to it, which must be a success.
    ///
    /// # Errors
    /// Where it is none.
    pub fn new(message: &'static [u8], answer: &[u8]) -> anyhow::Result<Self> {
        let (defaults, policy) = (defaults(), policy());
        let Ok(command) = command::parse(message, None, &defaults).command else {
            anyhow::bail!("the command is invalid");
        };
        let base_url = "https://staging.eko.in/ekoapi/v3".parse()?;
        let call = Call::new(base_url, "TEST_ACCESS_KEY_DO_NOT_USE", answer);
        let wall: Timestamp = "2026-11-21T09:00:01Z".parse()?;
        let now = Now { wall, process: 7, monotonic: Duration::from_secs(7) };
        let mut answered = History::new(now);
        answered.begin(now, stamp(now));
        answered.end(now, call.read(&command));
        let conditions = Conditions { policy: &policy, now, jitter: 0.5 };
        let step = decision::decide(Task::of(&command), &answered, Trigger::Answered, &conditions);
        let Step::Finish(outcome @ Outcome::Succeeded { .. }) = step else {
            anyhow::bail!("the answer is no success");
        };
        let trace = Trace::new(7);
        Ok(Self { message, defaults, policy, call, command, answered, outcome, trace, now })
    }

    /// The message to a command; whether it is one.
    pub fn parse(&self) -> bool {
        command::parse(self.message, None, &self.defaults).command.is_ok()
    }

    /// Timestamp and signature of a call, as its headers have them.
    pub fn sign(&self) -> (String, String) {
        self.call.sign(self.now.wall.as_millisecond())
    }

    /// Address and body of the call; the body's length.
    pub fn request(&self) -> usize {
        self.call.request(&self.command).1.len()
    }

    /// Eko's answer to a verdict; its word.
    pub fn read_answer(&self) -> &'static str {
        self.call.read(&self.command).as_str()
    }

    /// What follows from a history; whether that is the end.
    pub fn decide(&self) -> bool {
        let step = self.step(&self.command, &self.answered, Trigger::Answered);
        matches!(step, Step::Finish(_))
    }

    /// The event that tells the outcome; its length.
    pub fn event(&self) -> usize {
        self.tell(&self.command, 1, &self.outcome).body.len()
    }

    /// The whole path, as the worker goes it, but for what waits for others; the length of the
    /// event, or 0 where there is none.
    pub fn whole(&self) -> usize {
        let parsed = command::parse(self.message, None, &self.defaults);
        let Ok(command) = parsed.command else { return 0 };
        let mut history = History::new(self.now);
        if self.step(&command, &history, Trigger::Ready) != Step::Attempt {
            return 0;
        }
        history.begin(self.now, stamp(self.now));
        let sent = (self.call.sign(self.now.wall.as_millisecond()), self.call.request(&command));
        std::hint::black_box(&sent);
        history.end(self.now, self.call.read(&command));
        match self.step(&command, &history, Trigger::Answered) {
            Step::Finish(outcome) => self.tell(&command, history.attempts(), &outcome).body.len(),
            Step::Attempt | Step::Inquire | Step::RetryAfter { .. } | Step::InquireAfter { .. } => {
                0
            }
        }
    }

    fn step(&self, command: &Command, history: &History, trigger: Trigger) -> Step {
        let conditions = Conditions { policy: &self.policy, now: self.now, jitter: 0.5 };
        decision::decide(Task::of(command), history, trigger, &conditions)
    }

    fn tell(&self, command: &Command, attempts: u32, outcome: &Outcome) -> Event {
        let about = About {
            command_id: &command.id,
            event_id: &command.id,
            kind: Some(command.kind()),
            subject: Some(command.subject()),
            correlation_id: command.correlation_id.as_deref(),
            attempts,
            trace: &self.trace,
            span: 7,
        };
        Event::new(&about, outcome, self.now.wall)
    }
}

fn stamp(now: Now) -> Stamp {
    Stamp { at: now.wall.as_millisecond(), lead: 0 }
}

fn defaults() -> Defaults {
    Defaults {
        initiator_id: Some(Mobile::new("9962981729")),
        user_code: Some("20810200".to_owned()),
    }
}

/// The settings' defaults.
fn policy() -> Policy {
    let (day, max) = (Duration::from_secs(86_400), Duration::from_secs(300));
    Policy {
        retry: Backoff { initial: Duration::from_millis(500), max },
        give_up_otp: Duration::from_secs(120),
        give_up_refund: day,
        otp_resend_spacing: Duration::from_secs(30),
        settle: Backoff { initial: Duration::from_secs(5), max },
        settle_quiet: Duration::from_secs(30),
        settle_give_up: day,
        refund_max_attempts: 3,
        preflight: false,
        call_timeout: Duration::from_secs(30),
        stamp_tolerance: Duration::from_secs(120),
    }
}
