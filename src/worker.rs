//! What all deliveries share.

mod waiting;

pub(crate) use waiting::Waiting;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::breaker::Breakers;
use crate::clock::{Now, Stamp};
use crate::command::Defaults;
use crate::decision::Policy;
use crate::eko::{Client, Timing};
use crate::journey::LastTaken;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::otel::Tracer;
use crate::otp_keys::OtpKeys;

/// All that deliveries share.
pub(crate) struct Worker {
    pub(crate) ledger: Ledger,
    pub(crate) eko: Client,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) tracer: Tracer,
    pub(crate) policy: Policy,
    pub(crate) defaults: Defaults,
    /// What opens sealed OTPs.
    pub(crate) otp_keys: OtpKeys,
    /// How long a claim lasts.
    pub(crate) lease: Duration,
    /// What time it is.
    pub(crate) clock: Clock,
    /// Ends that were counted, and that the ledger does not know to be published yet.
    pub(crate) counted: Counted,
    /// Whose messages wait here for a call.
    pub(crate) waiting: Waiting,
    /// As whom to inquire where the settings name no account.
    pub(crate) last_taken: LastTaken,
}

impl Worker {
    /// What time it is.
    pub(crate) fn now(&self) -> Now {
        self.clock.now()
    }

    /// The timing of a call that begins now.
    pub(crate) fn timing(&self, stamp: Stamp) -> Timing {
        Timing { stamp: stamp.at, deadline: clock() + self.policy.call_timeout }
    }
}

/// Tells what time it is: by the wall clock, and since the process began by one that only goes
/// forward.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    process: u64,
    began: Instant,
}

impl Clock {
    /// A clock that begins now, of a process with a number of its own.
    pub(crate) fn begin() -> Self {
        Self { process: random_u64(), began: clock() }
    }

    /// What time it is.
    #[expect(clippy::disallowed_methods, reason = "the worker tells the rest what time it is")]
    pub(crate) fn now(self) -> Now {
        Now { wall: Timestamp::now(), process: self.process, monotonic: self.passed() }
    }

    /// How long the process has run.
    pub(crate) fn passed(self) -> Duration {
        self.began.elapsed()
    }
}

/// Ends that were counted and are not known to be published. Who sees one again, after an answer of the
/// ledger or a session was lost, counts it unless it stands here.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<HashSet<String>>);

impl Counted {
    /// Notes that an end is counted; tells whether it was not yet.
    pub(crate) fn insert(&self, event_id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(event_id.to_owned())
    }

    /// It is published, and will not be seen again as untold.
    pub(crate) fn remove(&self, event_id: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(event_id);
    }
}

#[expect(clippy::disallowed_methods, reason = "the worker tells the rest what time it is")]
pub(crate) fn clock() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the worker draws the random numbers that others take"
)]
pub(crate) fn random_f64() -> f64 {
    fastrand::f64()
}

pub(crate) fn random_u32() -> u32 {
    fastrand::u32(..)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the worker draws the random numbers that others take"
)]
pub(crate) fn random_u64() -> u64 {
    fastrand::u64(..)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the worker draws the random numbers that others take"
)]
pub(crate) fn random_u128() -> u128 {
    fastrand::u128(..)
}
