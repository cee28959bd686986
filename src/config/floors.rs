//! Settings that can be read and under which a guarantee would be lost.

use std::time::Duration;

use url::Url;

use super::read::is_loopback;
use crate::decision::Policy;

/// A copy of a command waits that long in the broker at most.
const LONGEST_PARKING: Duration = Duration::from_secs(3_600);

/// Eko's own services take 10 to 15 s for an execution that began at the last moment.
const LEAST_QUIET: Duration = Duration::from_secs(15);

/// Eko documents 120 s. Somebody who measures less has measured under good conditions.
const LEAST_TOLERANCE: Duration = Duration::from_secs(60);

/// Eko's slower calls take seconds: each that is given up has to be settled.
const LEAST_TIMEOUT: Duration = Duration::from_secs(5);

/// A message may be that long on its way between two queues of a loaded broker.
const LEAST_ORPHAN: Duration = Duration::from_secs(120);

/// What is wrong with settings of which each alone can be read: names and reasons.
pub(super) fn below(
    policy: &Policy,
    retention: Duration,
    orphan_after: Duration,
    base_url: &Url,
) -> Vec<(&'static str, String)> {
    let mut wrong: Vec<_> = short_retention(policy, retention).into_iter().collect();
    if !is_loopback(base_url) {
        wrong.extend(short_of_eko(policy, orphan_after));
    }
    wrong
}

/// A command that is forgotten while a copy of it can come back is a new one.
fn short_retention(policy: &Policy, retention: Duration) -> Option<(&'static str, String)> {
    let (longest, name) = [
        (policy.give_up_refund, "RETRY_GIVE_UP_REFUND"),
        (policy.settle_give_up, "SETTLE_GIVE_UP"),
        (policy.give_up_otp, "RETRY_GIVE_UP_OTP"),
    ]
    .into_iter()
    .max()?;
    let until_over = [policy.stamp_tolerance, policy.settle_quiet].into_iter();
    let least = until_over.fold(longest, Duration::saturating_add);
    let (least, sum) = if least < LONGEST_PARKING {
        (LONGEST_PARKING, "as long as a parked copy may wait in the broker".to_owned())
    } else {
        (least, format!("{name}, EKO_STAMP_TOLERANCE and SETTLE_QUIET together"))
    };
    let why = || {
        format!(
            "must be at least {least:?}, {sum}: a copy of a command may come back until then, and \
             one that is forgotten could be executed twice"
        )
    };
    (retention < least).then(|| ("LEDGER_RETENTION", why()))
}

/// What only a simulator on this machine may undercut.
fn short_of_eko(
    policy: &Policy,
    orphan_after: Duration,
) -> impl Iterator<Item = (&'static str, String)> {
    let floors = [
        (
            "SETTLE_QUIET",
            policy.settle_quiet,
            LEAST_QUIET,
            "Eko may take that long for an execution that began at the last moment, and the refund \
             would be sent again meanwhile",
        ),
        (
            "EKO_STAMP_TOLERANCE",
            policy.stamp_tolerance,
            LEAST_TOLERANCE,
            "Eko may execute a call that was held on its way for longer, and the refund would be \
             sent again before",
        ),
        (
            "EKO_TIMEOUT",
            policy.call_timeout,
            LEAST_TIMEOUT,
            "Eko's answers may take seconds, and each that is not waited for leaves its command in \
             doubt",
        ),
        (
            "ORPHAN_AFTER",
            orphan_after,
            LEAST_ORPHAN,
            "a command would be ended as one without a message while its message is on its way",
        ),
    ];
    floors.into_iter().filter(|(_, given, least, _)| given < least).map(|(name, _, least, why)| {
        (name, format!("must be at least {least:?} unless EKO_BASE_URL is on loopback: {why}"))
    })
}
