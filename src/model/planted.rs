//! Planted bugs: each guard is taken away in a scenario that is sound with it.

use super::promise::Broken;
use super::scenario::{Mutation, Scenario};
use super::*;

/// Plants bugs where there were none, and names the promise that they must break.
fn assert_found(mutations: &'static [Mutation], scenario: &Scenario, broken: Broken) {
    let report = run(&Scenario { mutations, ..*scenario });
    assert_eq!(report.found.as_ref().map(|found| found.broken), Some(broken), "{report}");
}

#[test]
fn planted_forget_refunded() {
    assert_found(&[Mutation::ForgetRefunded], &RIVALS, Broken::ExecutedTwice);
}

#[test]
fn planted_interrupted_as_fresh() {
    assert_found(&[Mutation::InterruptedAsFresh], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_one_reading() {
    assert_found(&[Mutation::OneReading], &UNDATED, Broken::ExecutedTwice);
}

#[test]
fn planted_no_quiet() {
    assert_found(&[Mutation::NoQuiet], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_no_tolerance() {
    assert_found(&[Mutation::NoTolerance], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_wall_clock_measures() {
    assert_found(&[Mutation::WallClockMeasures], &STEPPED, Broken::DeniedAnExecution);
}

#[test]
fn planted_sign_when_sent() {
    assert_found(&[Mutation::SignWhenSent], &STALLED, Broken::ExecutedTwice);
}

#[test]
fn planted_resent_as_refused() {
    assert_found(&[Mutation::ResentAsRefused], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_gateway_as_refused() {
    assert_found(&[Mutation::GatewayAsRefused], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_stale_reading_counts() {
    assert_found(&[Mutation::StaleReadingCounts], &STALE, Broken::ExecutedTwice);
}

#[test]
fn planted_ttl_counts_twice() {
    assert_found(&[Mutation::TtlCountsTwice], &STEPPED, Broken::DeniedAnExecution);
}

#[test]
fn planted_ack_before_confirm() {
    assert_found(&[Mutation::AckBeforeConfirm], &ALONE, Broken::Forgotten);
}

#[test]
fn planted_no_tid_lock() {
    assert_found(&[Mutation::NoTidLock], &RIVALS, Broken::ExecutedTwice);
}

#[test]
fn planted_resend_unclear() {
    assert_found(&[Mutation::ResendUnclear], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_drop_before_confirm() {
    assert_found(&[Mutation::DropBeforeConfirm], &ALONE, Broken::Forgotten);
}

#[test]
fn planted_fail_on_timeout() {
    assert_found(&[Mutation::FailOnTimeout], &ALONE, Broken::DeniedAnExecution);
}

#[test]
fn planted_call_without_claim() {
    assert_found(&[Mutation::CallWithoutClaim], &TAKEN, Broken::ExecutedTwice);
}

#[test]
fn planted_tell_without_claim() {
    assert_found(&[Mutation::TellWithoutClaim], &COPIES, Broken::TwoOutcomes);
}

#[test]
fn planted_trust_redelivered() {
    assert_found(&[Mutation::TrustRedelivered], &AMNESIA, Broken::ExecutedTwice);
}

#[test]
fn planted_new_event_each_time() {
    assert_found(&[Mutation::NewEventEachTime], &COPIES, Broken::TwoOutcomes);
}

#[test]
fn planted_no_orphans() {
    assert_found(&[Mutation::NoOrphans], &PURGED, Broken::Unfinished);
}

#[test]
fn planted_fail_orphans() {
    assert_found(&[Mutation::FailOrphans], &PURGED, Broken::DeniedAnExecution);
}

#[test]
fn planted_no_caution_after_failover() {
    assert_found(&[Mutation::NoCautionAfterFailover], &FAILOVER, Broken::ExecutedTwice);
}

#[test]
fn planted_trust_rewound() {
    assert_found(&[Mutation::TrustRewound], &FAILOVER, Broken::ExecutedTwice);
}

#[test]
fn planted_adopt_without_caution() {
    assert_found(&[Mutation::AdoptWithoutCaution], &ADOPTED, Broken::ExecutedTwice);
}

#[test]
fn planted_no_pairing() {
    assert_found(&[Mutation::NoPairing], &TWO_LEDGERS, Broken::ExecutedTwice);
}

/// Not a guard that is missing but one that has an edge: the counter is published once a second.
#[test]
fn planted_register_lags() {
    let scenario = Scenario { faults: Faults { all: 3, ..FAILOVER.faults }, ..FAILOVER };
    assert_found(&[Mutation::RegisterLags], &scenario, Broken::ExecutedTwice);
}

/// Guards of which another one does the work as well, as long as that is there: a claim's lease only
/// spares work, since every write names the claim; a call that leaves late bears an old timestamp;
/// what a ledger has forgotten is inquired.
mod redundant {
    use super::*;

    #[test]
    #[ignore = "takes minutes: scripts/explore --deep"]
    fn lease_by_wall_clock() {
        assert_sound(&Scenario { mutations: &[Mutation::LeaseByWallClock], ..DISAGREEING });
    }

    #[test]
    #[ignore = "takes minutes: scripts/explore --deep"]
    fn send_late() {
        assert_sound(&Scenario { mutations: &[Mutation::SendLate], ..STALLED });
    }

    #[test]
    #[ignore = "takes minutes: scripts/explore --deep"]
    fn no_write_back() {
        assert_sound(&Scenario { mutations: &[Mutation::NoWriteBack], ..FAILOVER });
    }
}
