use super::*;
use crate::ledger::Error;

const UNAUTHORIZED: HealthSignal = HealthSignal::Against(Reason::Unauthorized);
const OUTAGE_SEEN: HealthSignal = HealthSignal::Against(Reason::Outage);

fn breakers() -> Breakers {
    let settings = Settings { concurrency: 4, ..Settings::default() };
    let breakers = Breakers::new(settings, Clock::begin(), CancellationToken::new());
    breakers.timestamps().stock();
    breakers
}

/// A command with the settings' account.
fn ours(command_id: &str) -> Witness<'_> {
    Witness { command_id, is_own_choice: false }
}

/// A command with an account of its own.
fn own(command_id: &str) -> Witness<'_> {
    Witness { command_id, is_own_choice: true }
}

fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

fn paused(breakers: &Breakers, kind: Kind) -> Option<Reason> {
    breakers.paused(kind).map(|pause| pause.reason)
}

#[test]
fn a_second_command_with_the_same_fault_pauses_its_kind_only() {
    let breakers = breakers();
    breakers.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(0));
    breakers.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(1));
    assert_eq!(paused(&breakers, Kind::Refund), None, "one odd command does not stop the line");
    breakers.saw(Kind::Refund, ours("b"), UNAUTHORIZED, at(2));
    assert_eq!(paused(&breakers, Kind::Refund), Some(Reason::Unauthorized));
    assert_eq!(paused(&breakers, Kind::RefundOtp), None);
}

#[test]
fn a_call_that_goes_well_clears_a_suspicion() {
    let breakers = breakers();
    breakers.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(0));
    breakers.saw(Kind::Refund, ours("c"), HealthSignal::Fine, at(1));
    breakers.saw(Kind::Refund, ours("b"), UNAUTHORIZED, at(2));
    assert_eq!(paused(&breakers, Kind::Refund), None);
}

#[test]
fn ten_failures_in_a_row_are_an_outage() {
    let breakers = breakers();
    for second in 0..9 {
        breakers.saw(Kind::TransferOtp, ours("a"), OUTAGE_SEEN, at(second));
    }
    assert_eq!(paused(&breakers, Kind::TransferOtp), None);
    breakers.saw(Kind::TransferOtp, ours("a"), OUTAGE_SEEN, at(9));
    assert_eq!(paused(&breakers, Kind::TransferOtp), Some(Reason::Outage));
}

#[test]
fn after_a_pause_a_fault_of_ours_pauses_again_and_probes_are_counted_on() {
    let breakers = breakers();
    breakers.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(0));
    breakers.saw(Kind::Refund, ours("b"), UNAUTHORIZED, at(0));
    assert_eq!((breakers.next_probe(Kind::Refund), breakers.next_probe(Kind::Refund)), (1, 2));
    breakers.resume(Kind::Refund, at(10));
    assert_eq!(paused(&breakers, Kind::Refund), None);
    breakers.saw(Kind::Refund, ours("c"), UNAUTHORIZED, at(11));
    breakers.saw(Kind::Refund, ours("c"), UNAUTHORIZED, at(11));
    assert_eq!(paused(&breakers, Kind::Refund), None, "one odd command does not stop the line");
    breakers.saw(Kind::Refund, ours("d"), UNAUTHORIZED, at(11));
    assert_eq!(paused(&breakers, Kind::Refund), Some(Reason::Unauthorized));
    assert_eq!(breakers.next_probe(Kind::Refund), 3);
    breakers.resume(Kind::Refund, at(20));
    breakers.saw(Kind::Refund, ours("c"), HealthSignal::Fine, at(21));
    assert_eq!(breakers.next_probe(Kind::Refund), 1);
}

#[test]
fn after_a_pause_the_next_sign_of_an_outage_pauses_again_for_the_reason_that_holds_now() {
    let breakers = breakers();
    breakers.pause(Kind::Refund, Reason::Unauthorized, at(0));
    breakers.resume(Kind::Refund, at(1));
    breakers.saw(Kind::Refund, ours("a"), OUTAGE_SEEN, at(2));
    assert_eq!(paused(&breakers, Kind::Refund), Some(Reason::Outage));
}

#[test]
fn a_pause_that_no_call_told_is_over_without_a_half_open_breaker() {
    let breakers = breakers();
    breakers.pause(Kind::Refund, Reason::BrokerBlocked, at(10));
    breakers.pause(Kind::Refund, Reason::Topology, at(12));
    assert_eq!(paused(&breakers, Kind::Refund), Some(Reason::BrokerBlocked), "the first holds");
    breakers.resume(Kind::Refund, at(3_610));
    breakers.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(3_611));
    assert_eq!(paused(&breakers, Kind::Refund), None, "one odd command does not stop the line");
    let still = breakers.paused_for(Kind::Refund, at(4_000), at(4_000));
    assert_eq!(still, Duration::from_secs(3_600));
}

#[test]
fn give_up_times_stand_still_while_it_is_paused() {
    let breakers = breakers();
    let still =
        |since, now| breakers.paused_for(Kind::Refund, at(now) - at(since), at(now)).as_secs();
    assert_eq!(still(0, 100), 0);
    breakers.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(10));
    breakers.saw(Kind::Refund, ours("b"), UNAUTHORIZED, at(10));
    assert_eq!(still(0, 15), 5);
    breakers.resume(Kind::Refund, at(30));
    assert_eq!((still(0, 100), still(20, 100), still(40, 100)), (20, 10, 0));
}

#[test]
fn a_ledger_that_fails_pauses_every_kind_at_once_and_leaves_no_breaker_half_open() {
    let breakers = breakers();
    assert!(breakers.pause_all(Reason::Ledger, at(0)));
    assert!(!breakers.pause_all(Reason::Ledger, at(1)), "they were paused before");
    assert_eq!(Kind::ALL.map(|kind| paused(&breakers, kind)), [Some(Reason::Ledger); 3]);
    breakers.resume(Kind::Refund, at(5));
    breakers.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(6));
    assert_eq!(paused(&breakers, Kind::Refund), None, "one odd command does not stop the line");
    assert_eq!(breakers.paused_for(Kind::Refund, at(9), at(9)).as_secs(), 5);
}

/// The wall clock at the beginning of the process, and how long that runs.
fn wall(begin: i64, second: u64) -> Now {
    let wall = Timestamp::from_second(begin).unwrap() + at(second);
    Now { wall, process: 1, monotonic: at(second) }
}

#[test]
fn the_time_that_is_agreed_on_is_not_moved_by_a_wall_clock_that_is_set() {
    let breakers = breakers();
    let (right, year_ahead) = (1_800_000_000, 1_831_536_000);
    let agreed = |now| breakers.agreed_time(now).map(Timestamp::as_second);
    assert_eq!(agreed(wall(right, 5)), None, "Eko has not told its time");
    breakers.saw_clock(-31_536_000.0, wall(year_ahead, 6));
    assert_eq!(agreed(wall(year_ahead, 6)), None, "Eko's clock tells another time");
    breakers.saw_clock(1.0, wall(right, 10));
    assert_eq!(agreed(wall(year_ahead, 70)), Some(right + 70));
    breakers.saw_clock(-31_536_000.0, wall(year_ahead, 80));
    assert_eq!(agreed(wall(year_ahead, 90)), Some(right + 90));
}

#[test]
fn a_clock_far_off_in_two_answers_in_a_row_pauses_every_kind() {
    let breakers = breakers();
    let now = |second| wall(1_800_000_000, second);
    assert!(!breakers.saw_clock(-91.0, now(0)), "one answer may be a proxy's");
    assert!(!breakers.saw_clock(3.0, now(1)));
    assert!(!breakers.saw_clock(95.0, now(2)));
    assert_eq!(paused(&breakers, Kind::Refund), None);
    assert!(breakers.saw_clock(95.0, now(3)));
    assert_eq!(Kind::ALL.map(|kind| paused(&breakers, kind)), [Some(Reason::Clock); 3]);
    assert!(Breakers::is_right(-90.0) && !Breakers::is_right(-90.5));
}

#[tokio::test]
async fn who_waits_for_a_permit_is_rejected_when_its_kind_is_paused() {
    let ledger_fails: fn(&Breakers) = |breakers| assert!(breakers.pause_all(Reason::Ledger, at(0)));
    let worker_stops: fn(&Breakers) = |breakers| breakers.stop.cancel();
    for (pause, rejected) in
        [(ledger_fails, Rejected(Some(Reason::Ledger))), (worker_stops, Rejected(None))]
    {
        let breakers = breakers();
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.push(breakers.enter(Kind::Refund).await.unwrap());
        }
        assert!(breakers.enter(Kind::RefundOtp).await.is_ok(), "each kind has its own");
        let fifth = breakers.enter(Kind::Refund);
        tokio::pin!(fifth);
        assert!(futures_util::poll!(&mut fifth).is_pending());
        pause(&breakers);
        let turned_away = tokio::time::timeout(Duration::from_secs(5), fifth).await.unwrap();
        assert_eq!(turned_away.err().as_ref(), Some(&rejected));
        assert_eq!(breakers.enter(Kind::Refund).await.err(), Some(rejected));
        // What is begun goes on.
        drop(breakers.reacquire(Kind::Refund, Purpose::Inquiry, taken.pop()).await);
        drop(breakers.reacquire(Kind::Refund, Purpose::Inquiry, None).await);
    }
}

#[tokio::test]
async fn after_an_outage_one_call_at_a_time_shows_whether_it_is_over() {
    let breakers = breakers();
    (0..10).for_each(|second| breakers.saw(Kind::Refund, ours("a"), OUTAGE_SEEN, at(second)));
    breakers.resume(Kind::Refund, at(20));
    assert_eq!(breakers.limit(Kind::Refund), 1);
    breakers.saw(Kind::Refund, ours("a"), HealthSignal::Nothing, at(21));
    assert_eq!(breakers.limit(Kind::Refund), 1);
    breakers.saw(Kind::Refund, ours("a"), HealthSignal::Fine, at(22));
    assert_eq!(breakers.limit(Kind::Refund), 4);
}

#[test]
fn accounts_of_commands_that_eko_refuses_pause_nothing_while_others_work() {
    let breakers = breakers();
    for second in 0..200 {
        let id = second.to_string();
        breakers.saw(Kind::Refund, own(&id), UNAUTHORIZED, at(second));
        if second % 5 == 0 {
            breakers.saw(Kind::Refund, ours("good"), HealthSignal::Fine, at(second));
        }
        assert_eq!(paused(&breakers, Kind::Refund), None, "after {second} s");
    }
    assert_eq!(breakers.refuses_ours(Kind::Refund), None);
}

#[test]
fn a_refused_account_of_a_command_s_own_does_not_confirm_that_ours_is_refused() {
    let breakers = breakers();
    breakers.saw(Kind::Refund, own("a"), UNAUTHORIZED, at(0));
    breakers.saw(Kind::Refund, ours("b"), UNAUTHORIZED, at(1));
    breakers.saw(Kind::Refund, own("c"), UNAUTHORIZED, at(2));
    assert_eq!(paused(&breakers, Kind::Refund), None);
    assert_eq!(breakers.refuses_ours(Kind::Refund), Some(Reason::Unauthorized));
    breakers.saw(Kind::Refund, ours("d"), UNAUTHORIZED, at(3));
    assert_eq!(paused(&breakers, Kind::Refund), Some(Reason::Unauthorized));
    breakers.serves(Kind::Refund, true, at(4));
    assert_eq!(
        breakers.refuses_ours(Kind::Refund),
        Some(Reason::Unauthorized),
        "not ours was taken"
    );
    breakers.serves(Kind::Refund, false, at(5));
    assert_eq!(breakers.refuses_ours(Kind::Refund), None);
}

#[test]
fn where_all_bring_accounts_of_their_own_ten_refused_in_a_row_pause() {
    let breakers = breakers();
    for round in [0, 10] {
        for id in 0..9 {
            breakers.saw(Kind::Refund, own(&id.to_string()), UNAUTHORIZED, at(round));
        }
        assert_eq!(paused(&breakers, Kind::Refund), None, "also when it was just resumed");
        breakers.saw(Kind::Refund, own("tenth"), UNAUTHORIZED, at(round));
        assert_eq!(paused(&breakers, Kind::Refund), Some(Reason::Unauthorized));
        breakers.resume(Kind::Refund, at(round + 1));
    }
}

#[test]
fn a_pause_that_is_probed_in_vain_lets_a_command_show_now_and_then() {
    let breakers = breakers();
    breakers.pause(Kind::Refund, Reason::Outage, at(0));
    let tried: Vec<_> = (1..=7)
        .filter(|probe| {
            assert_eq!(breakers.next_probe(Kind::Refund), *probe);
            breakers.is_blind_trial_due(Kind::Refund, Reason::Outage, at(300), at(10))
        })
        .collect();
    assert_eq!(tried, [3, 6]);
}

#[test]
fn an_otp_shows_whether_an_outage_is_over_only_after_long_or_when_another_kind_works() {
    let breakers = breakers();
    let is_due =
        |second| breakers.is_blind_trial_due(Kind::RefundOtp, Reason::Outage, at(300), at(second));
    breakers.serves(Kind::Refund, false, at(9));
    breakers.pause(Kind::RefundOtp, Reason::Outage, at(10));
    (0..3).for_each(|_| _ = breakers.next_probe(Kind::RefundOtp));
    assert!(!is_due(309));
    assert!(is_due(310));
    breakers.serves(Kind::Refund, false, at(11));
    assert!(is_due(12), "a refund went well since");
    let for_keys =
        breakers.is_blind_trial_due(Kind::RefundOtp, Reason::Unauthorized, at(300), at(12));
    assert!(for_keys, "what is refused for a fault of ours was not executed");
}

#[test]
fn what_is_shown_is_why_the_breaker_is_open_or_what_is_wrong_with_the_queue() {
    let breakers = breakers();
    assert_eq!(breakers.shown(Kind::Refund), []);
    breakers.note_topology(Kind::Refund, Some("the queue gives no answer".to_owned()));
    assert_eq!(breakers.shown(Kind::Refund), [Reason::Topology]);
    assert_eq!(breakers.shown(Kind::RefundOtp), [], "each kind has its own");
    assert_eq!(breakers.paused(Kind::Refund), None, "what is in hand may still call");
    breakers.pause(Kind::Refund, Reason::Ledger, at(5));
    assert_eq!(breakers.shown(Kind::Refund), [Reason::Ledger]);
    let pause = Pause { reason: Reason::Ledger, since: at(5) };
    assert_eq!(breakers.paused(Kind::Refund), Some(pause));
    breakers.note_topology(Kind::Refund, None);
    breakers.resume(Kind::Refund, at(6));
    assert_eq!(breakers.shown(Kind::Refund), []);
}

#[test]
fn a_pause_goes_on_where_the_queues_are_another_ledger_s_meanwhile() {
    let breakers = breakers();
    breakers.pause(Kind::Refund, Reason::Outage, at(0));
    breakers.note_pairing(Some(Mispaired::OtherLedger("theirs".to_owned())));
    breakers.resume(Kind::Refund, at(5));
    let pause = Pause { reason: Reason::Ledger, since: at(5) };
    assert_eq!(breakers.paused(Kind::Refund), Some(pause));
    breakers.note_pairing(None);
    breakers.resume(Kind::Refund, at(6));
    assert_eq!(breakers.paused(Kind::Refund), None);
    assert_eq!(breakers.paused_for(Kind::Refund, at(7), at(7)), at(6), "all of it counts");
}

#[test]
fn a_worker_that_stops_is_not_shown_as_paused() {
    let breakers = breakers();
    breakers.pause(Kind::Refund, Reason::Outage, at(0));
    breakers.note_topology(Kind::RefundOtp, Some("it is gone".to_owned()));
    breakers.stop.cancel();
    assert!(Kind::ALL.into_iter().all(|kind| breakers.shown(kind).is_empty()));
}

/// What an operator says of refunds.
fn by_hand() -> OperatorPause {
    let (person, reason) = ("asha@desk".to_owned(), "Eko asked for it".to_owned());
    OperatorPause { kind: Kind::Refund, since: Timestamp::UNIX_EPOCH, person, reason }
}

#[test]
fn a_fault_and_an_operator_are_both_held_and_each_ends_by_itself() {
    let breakers = breakers();
    breakers.note_operator_pauses(vec![by_hand()], at(0));
    assert_eq!(breakers.shown(Kind::Refund), [Reason::Operator]);
    assert_eq!(breakers.shown(Kind::RefundOtp), [], "each kind has its own");
    breakers.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(1));
    breakers.saw(Kind::Refund, ours("b"), UNAUTHORIZED, at(10));
    assert_eq!(breakers.shown(Kind::Refund), [Reason::Unauthorized, Reason::Operator]);
    assert_eq!(paused(&breakers, Kind::Refund), Some(Reason::Unauthorized), "it is probed");
    breakers.resume(Kind::Refund, at(20));
    assert_eq!(
        breakers.shown(Kind::Refund),
        [Reason::Operator],
        "a probe ends its own reason only"
    );
    breakers.resume(Kind::Refund, at(25));
    assert_eq!(paused(&breakers, Kind::Refund), Some(Reason::Operator), "nor does another one");
    assert!(breakers.is_held(Kind::Refund));
    breakers.note_operator_pauses(Vec::new(), at(30));
    assert_eq!(paused(&breakers, Kind::Refund), None);
    assert!(!breakers.is_held(Kind::Refund));
    assert_eq!(breakers.paused_for(Kind::Refund, at(40), at(40)), at(30), "counted once");
    assert_eq!(breakers.limit(Kind::Refund), 1, "one call shows whether the keys are right");
}

#[tokio::test]
async fn who_waits_for_the_operator_goes_on_when_a_fault_comes_first() {
    let breakers = breakers();
    breakers.note_operator_pauses(vec![by_hand()], at(0));
    {
        let waits = breakers.until_released(Kind::Refund);
        tokio::pin!(waits);
        assert!(futures_util::poll!(&mut waits).is_pending());
        breakers.probe_now();
        assert!(futures_util::poll!(&mut waits).is_pending(), "a hangup is no operator");
        breakers.pause(Kind::Refund, Reason::Ledger, at(1));
        assert!(futures_util::poll!(&mut waits).is_ready());
    }
    breakers.note_operator_pauses(Vec::new(), at(2));
    assert_eq!(breakers.shown(Kind::Refund), [Reason::Ledger]);
    assert_eq!(breakers.enter(Kind::Refund).await.err(), Some(Rejected(Some(Reason::Ledger))));
}

#[test]
fn what_was_noted_of_the_ledger_holds_until_it_answers_and_no_kind_waits_for_it() {
    let breakers = breakers();
    breakers.note_ledger(Some(Error::NotYet("the disk is full".to_owned())));
    breakers.pause(Kind::Refund, Reason::Ledger, at(0));
    breakers.ledger_answers();
    assert!(breakers.ledger_failure().is_some(), "it can be read, and not yet be written");
    breakers.resume(Kind::Refund, at(1));
    breakers.ledger_answers();
    assert!(breakers.ledger_failure().is_none());
    breakers.note_ledger(Some(Error::Away("it was stopped".to_owned())));
    breakers.pause(Kind::Refund, Reason::Ledger, at(2));
    let requests = breakers.probe_requests();
    breakers.ledger_answers();
    assert!(breakers.ledger_failure().is_none(), "its server is back");
    assert!(requests.has_changed().unwrap(), "whoever waits for it looks at once");
}
