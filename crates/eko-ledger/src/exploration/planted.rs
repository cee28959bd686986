//! Planted bugs: each guard is taken away in a scenario that is sound with it.

use super::promise::Broken;
use super::scenario::{Plant, Scenario};
use super::*;

/// Plants bugs where there were none, and names the promise that they must break.
fn assert_found(plants: &'static [Plant], scenario: &Scenario, broken: Broken) {
    let report = run(&Scenario { plants, ..*scenario });
    assert_eq!(report.found.as_ref().map(|found| found.broken), Some(broken), "{report}");
}

#[test]
fn planted_forget_refunded() {
    assert_found(&[Plant::ForgetRefunded], &RIVALS, Broken::ExecutedTwice);
}

#[test]
fn planted_interrupted_as_fresh() {
    assert_found(&[Plant::InterruptedAsFresh], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_one_reading() {
    assert_found(&[Plant::OneReading], &UNDATED, Broken::ExecutedTwice);
}

#[test]
fn planted_no_quiet() {
    assert_found(&[Plant::NoQuiet], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_no_tolerance() {
    assert_found(&[Plant::NoTolerance], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_wall_clock_measures() {
    assert_found(&[Plant::WallClockMeasures], &STEPPED, Broken::DeniedAnExecution);
}

#[test]
fn planted_sign_when_sent() {
    assert_found(&[Plant::SignWhenSent], &STALLED, Broken::ExecutedTwice);
}

#[test]
fn planted_resent_as_refused() {
    assert_found(&[Plant::ResentAsRefused], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_gateway_as_refused() {
    assert_found(&[Plant::GatewayAsRefused], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_stale_reading_counts() {
    assert_found(&[Plant::StaleReadingCounts], &STALE, Broken::ExecutedTwice);
}

#[test]
fn planted_ttl_counts_twice() {
    assert_found(&[Plant::TtlCountsTwice], &STEPPED, Broken::DeniedAnExecution);
}

#[test]
fn planted_ack_before_confirm() {
    assert_found(&[Plant::AckBeforeConfirm], &ALONE, Broken::Forgotten);
}

#[test]
fn planted_no_tid_lock() {
    assert_found(&[Plant::NoTidLock], &RIVALS, Broken::ExecutedTwice);
}

#[test]
fn planted_resend_unclear() {
    assert_found(&[Plant::ResendUnclear], &ALONE, Broken::ExecutedTwice);
}

#[test]
fn planted_drop_before_confirm() {
    assert_found(&[Plant::DropBeforeConfirm], &ALONE, Broken::Forgotten);
}

#[test]
fn planted_fail_on_timeout() {
    assert_found(&[Plant::FailOnTimeout], &ALONE, Broken::DeniedAnExecution);
}

#[test]
fn planted_call_without_claim() {
    assert_found(&[Plant::CallWithoutClaim], &TAKEN, Broken::ExecutedTwice);
}

#[test]
fn planted_tell_without_claim() {
    assert_found(&[Plant::TellWithoutClaim], &COPIES, Broken::TwoOutcomes);
}

#[test]
fn planted_trust_redelivered() {
    assert_found(&[Plant::TrustRedelivered], &AMNESIA, Broken::ExecutedTwice);
}

#[test]
fn planted_new_event_each_time() {
    assert_found(&[Plant::NewEventEachTime], &COPIES, Broken::TwoOutcomes);
}

#[test]
fn planted_no_orphans() {
    assert_found(&[Plant::NoOrphans], &PURGED, Broken::Unfinished);
}

#[test]
fn planted_fail_orphans() {
    assert_found(&[Plant::FailOrphans], &PURGED, Broken::DeniedAnExecution);
}

#[test]
fn planted_no_caution_after_failover() {
    assert_found(&[Plant::NoCautionAfterFailover], &FAILOVER, Broken::ExecutedTwice);
}

#[test]
fn planted_trust_rewound() {
    assert_found(&[Plant::TrustRewound], &FAILOVER, Broken::ExecutedTwice);
}

#[test]
fn planted_adopt_without_caution() {
    assert_found(&[Plant::AdoptWithoutCaution], &ADOPTED, Broken::ExecutedTwice);
}

#[test]
fn planted_no_pairing() {
    assert_found(&[Plant::NoPairing], &TWO_LEDGERS, Broken::ExecutedTwice);
}

/// Not a guard that is missing but one that has an edge: the counter is published once a second.
#[test]
fn planted_register_lags() {
    let scenario = Scenario { faults: Faults { all: 3, ..FAILOVER.faults }, ..FAILOVER };
    assert_found(&[Plant::RegisterLags], &scenario, Broken::ExecutedTwice);
}

/// Guards of which another one does the work as well, as long as that is there: a claim's lease only
/// spares work, since every write names the claim; a call that leaves late bears an old timestamp;
/// what a ledger has forgotten is inquired.
mod redundant {
    use super::*;

    #[test]
    #[ignore = "takes minutes: scripts/explore --deep"]
    fn lease_by_wall_clock() {
        assert_sound(&Scenario { plants: &[Plant::LeaseByWallClock], ..DISAGREEING });
    }

    #[test]
    #[ignore = "takes minutes: scripts/explore --deep"]
    fn send_late() {
        assert_sound(&Scenario { plants: &[Plant::SendLate], ..STALLED });
    }

    #[test]
    #[ignore = "takes minutes: scripts/explore --deep"]
    fn no_write_back() {
        assert_sound(&Scenario { plants: &[Plant::NoWriteBack], ..FAILOVER });
    }
}
