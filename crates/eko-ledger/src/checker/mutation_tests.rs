//! Mutations: each guard is taken away in a scenario that is sound with it.

use super::promise::Broken;
use super::scenario::{Mutation, Scenario};
use super::*;

/// A mutation in the scenario that shows it.
pub(super) struct MutationTest {
    pub(super) scenario: Scenario,
}

/// Each mutation as a test of the checker, and all of them for the simulation.
macro_rules! mutations {
    ($($test:ident $mutation:ident $scenario:ident $broken:ident),* $(,)?) => {
        pub(super) const MUTATION_TESTS: &[MutationTest] = &[$(
            MutationTest {
                scenario: Scenario { mutations: &[Mutation::$mutation], ..$scenario },
            }
        ),*];

        $(
            #[test]
            fn $test() {
                let mutations: &[Mutation] = &[Mutation::$mutation];
                let report = run(&Scenario { mutations, ..$scenario });
                let broken = report.found.as_ref().map(|found| found.broken);
                assert_eq!(broken, Some(Broken::$broken), "{report}");
            }
        )*
    };
}

/// The counter in the broker is published once a second: not a guard that is missing but one that
/// has an edge.
const LAGGING: Scenario = Scenario { faults: Faults { all: 3, ..FAILOVER.faults }, ..FAILOVER };

mutations! {
    planted_forget_refunded ForgetRefunded RIVALS ExecutedTwice,
    planted_interrupted_as_fresh InterruptedAsFresh ALONE ExecutedTwice,
    planted_one_reading OneReading UNDATED ExecutedTwice,
    planted_no_quiet NoQuiet ALONE ExecutedTwice,
    planted_no_tolerance NoTolerance ALONE ExecutedTwice,
    planted_wall_clock_measures WallClockMeasures STEPPED DeniedAnExecution,
    planted_sign_when_sent SignWhenSent STALLED ExecutedTwice,
    planted_resent_as_refused ResentAsRefused ALONE ExecutedTwice,
    planted_gateway_as_refused GatewayAsRefused ALONE ExecutedTwice,
    planted_stale_reading_counts StaleReadingCounts STALE ExecutedTwice,
    planted_ttl_counts_twice TtlCountsTwice STEPPED DeniedAnExecution,
    planted_ack_before_confirm AckBeforeConfirm ALONE Forgotten,
    planted_no_tid_lock NoTidLock RIVALS ExecutedTwice,
    planted_resend_unclear ResendUnclear ALONE ExecutedTwice,
    planted_drop_before_confirm DropBeforeConfirm ALONE Forgotten,
    planted_fail_on_timeout FailOnTimeout ALONE DeniedAnExecution,
    planted_call_without_claim CallWithoutClaim TAKEN ExecutedTwice,
    planted_tell_without_claim TellWithoutClaim COPIES TwoOutcomes,
    planted_trust_redelivered TrustRedelivered AMNESIA ExecutedTwice,
    planted_new_event_each_time NewEventEachTime COPIES TwoOutcomes,
    planted_no_orphans NoOrphans PURGED Unfinished,
    planted_fail_orphans FailOrphans PURGED DeniedAnExecution,
    planted_no_caution_after_failover NoCautionAfterFailover FAILOVER ExecutedTwice,
    planted_trust_rewound TrustRewound FAILOVER ExecutedTwice,
    planted_adopt_without_caution AdoptWithoutCaution ADOPTED ExecutedTwice,
    planted_no_pairing NoPairing TWO_LEDGERS ExecutedTwice,
    planted_register_lags RegisterLags LAGGING ExecutedTwice,
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
