use super::*;

const UNAUTHORIZED: HealthSignal = HealthSignal::Against(Reason::Unauthorized);
const OUTAGE_SEEN: HealthSignal = HealthSignal::Against(Reason::Outage);

fn gate() -> Gate {
    let settings = Settings { rate: None, concurrency: 4, is_adaptive: true };
    Gate::new(settings, CancellationToken::new())
}

/// A command with the settings' account.
fn ours(command_id: &str) -> Witness<'_> {
    Witness { command_id, is_own_account: false }
}

/// A command with an account of its own.
fn own(command_id: &str) -> Witness<'_> {
    Witness { command_id, is_own_account: true }
}

fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

fn paused(gate: &Gate, kind: Kind) -> Option<Reason> {
    *gate.watch(kind).borrow()
}

#[test]
fn a_second_command_with_the_same_fault_closes_its_kind_only() {
    let gate = gate();
    gate.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(0));
    gate.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(1));
    assert_eq!(paused(&gate, Kind::Refund), None, "one odd command does not stop the line");
    gate.saw(Kind::Refund, ours("b"), UNAUTHORIZED, at(2));
    assert_eq!(paused(&gate, Kind::Refund), Some(Reason::Unauthorized));
    assert_eq!(paused(&gate, Kind::RefundOtp), None);
}

#[test]
fn a_call_that_goes_well_clears_a_suspicion() {
    let gate = gate();
    gate.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(0));
    gate.saw(Kind::Refund, ours("c"), HealthSignal::Fine, at(1));
    gate.saw(Kind::Refund, ours("b"), UNAUTHORIZED, at(2));
    assert_eq!(paused(&gate, Kind::Refund), None);
}

#[test]
fn ten_failures_in_a_row_are_an_outage() {
    let gate = gate();
    for second in 0..9 {
        gate.saw(Kind::TransferOtp, ours("a"), OUTAGE_SEEN, at(second));
    }
    assert_eq!(paused(&gate, Kind::TransferOtp), None);
    gate.saw(Kind::TransferOtp, ours("a"), OUTAGE_SEEN, at(9));
    assert_eq!(paused(&gate, Kind::TransferOtp), Some(Reason::Outage));
}

#[test]
fn after_opening_a_fault_of_ours_closes_again_and_probes_go_on_counting() {
    let gate = gate();
    gate.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(0));
    gate.saw(Kind::Refund, ours("b"), UNAUTHORIZED, at(0));
    assert_eq!((gate.next_probe(Kind::Refund), gate.next_probe(Kind::Refund)), (1, 2));
    gate.resume(Kind::Refund, at(10));
    assert_eq!(paused(&gate, Kind::Refund), None);
    gate.saw(Kind::Refund, ours("c"), UNAUTHORIZED, at(11));
    gate.saw(Kind::Refund, ours("c"), UNAUTHORIZED, at(11));
    assert_eq!(paused(&gate, Kind::Refund), None, "one odd command does not stop the line");
    gate.saw(Kind::Refund, ours("d"), UNAUTHORIZED, at(11));
    assert_eq!(paused(&gate, Kind::Refund), Some(Reason::Unauthorized));
    assert_eq!(gate.next_probe(Kind::Refund), 3);
    gate.resume(Kind::Refund, at(20));
    gate.saw(Kind::Refund, ours("c"), HealthSignal::Fine, at(21));
    assert_eq!(gate.next_probe(Kind::Refund), 1);
}

#[test]
fn after_opening_the_next_sign_of_an_outage_closes_again_and_tells_the_reason_that_holds_now() {
    let gate = gate();
    gate.pause(Kind::Refund, Reason::Unauthorized, at(0));
    gate.resume(Kind::Refund, at(1));
    gate.saw(Kind::Refund, ours("a"), OUTAGE_SEEN, at(2));
    assert_eq!(paused(&gate, Kind::Refund), Some(Reason::Outage));
}

#[test]
fn a_pause_that_no_call_told_is_over_without_a_trial() {
    let gate = gate();
    gate.pause(Kind::Refund, Reason::BrokerBlocked, at(10));
    gate.pause(Kind::Refund, Reason::Topology, at(12));
    assert_eq!(paused(&gate, Kind::Refund), Some(Reason::BrokerBlocked), "the first holds");
    gate.resume(Kind::Refund, at(3_610));
    gate.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(3_611));
    assert_eq!(paused(&gate, Kind::Refund), None, "one odd command does not stop the line");
    let still = gate.paused_for(Kind::Refund, at(4_000), at(4_000));
    assert_eq!(still, Duration::from_secs(3_600));
}

#[test]
fn give_up_times_stand_still_while_it_is_closed() {
    let gate = gate();
    let still = |since, now| gate.paused_for(Kind::Refund, at(now) - at(since), at(now)).as_secs();
    assert_eq!(still(0, 100), 0);
    gate.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(10));
    gate.saw(Kind::Refund, ours("b"), UNAUTHORIZED, at(10));
    assert_eq!(still(0, 15), 5);
    gate.resume(Kind::Refund, at(30));
    assert_eq!((still(0, 100), still(20, 100), still(40, 100)), (20, 10, 0));
}

#[test]
fn a_ledger_that_fails_closes_every_kind_at_once_and_leaves_no_trial_behind() {
    let gate = gate();
    assert!(gate.pause_all(Reason::Ledger, at(0)));
    assert!(!gate.pause_all(Reason::Ledger, at(1)), "they were paused before");
    assert_eq!(Kind::ALL.map(|kind| paused(&gate, kind)), [Some(Reason::Ledger); 3]);
    gate.resume(Kind::Refund, at(5));
    gate.saw(Kind::Refund, ours("a"), UNAUTHORIZED, at(6));
    assert_eq!(paused(&gate, Kind::Refund), None, "one odd command does not stop the line");
    assert_eq!(gate.paused_for(Kind::Refund, at(9), at(9)).as_secs(), 5);
}

/// The wall clock at the beginning of the process, and how long that runs.
fn wall(begin: i64, second: u64) -> Now {
    let wall = Timestamp::from_second(begin).unwrap() + at(second);
    Now { wall, process: 1, monotonic: at(second) }
}

#[test]
fn the_time_that_is_agreed_on_is_not_moved_by_a_wall_clock_that_is_set() {
    let gate = gate();
    let (right, year_ahead) = (1_800_000_000, 1_831_536_000);
    let agreed = |now| gate.agreed_time(now).map(Timestamp::as_second);
    assert_eq!(agreed(wall(right, 5)), None, "Eko has not told its time");
    gate.saw_clock(-31_536_000.0, wall(year_ahead, 6));
    assert_eq!(agreed(wall(year_ahead, 6)), None, "Eko's clock tells another time");
    gate.saw_clock(1.0, wall(right, 10));
    assert_eq!(agreed(wall(year_ahead, 70)), Some(right + 70));
    gate.saw_clock(-31_536_000.0, wall(year_ahead, 80));
    assert_eq!(agreed(wall(year_ahead, 90)), Some(right + 90));
}

#[test]
fn a_clock_far_off_in_two_answers_in_a_row_closes_every_kind() {
    let gate = gate();
    let now = |second| wall(1_800_000_000, second);
    assert!(!gate.saw_clock(-91.0, now(0)), "one answer may be a proxy's");
    assert!(!gate.saw_clock(3.0, now(1)));
    assert!(!gate.saw_clock(95.0, now(2)));
    assert_eq!(paused(&gate, Kind::Refund), None);
    assert!(gate.saw_clock(95.0, now(3)));
    assert_eq!(Kind::ALL.map(|kind| paused(&gate, kind)), [Some(Reason::Clock); 3]);
    assert!(Gate::is_right(-90.0) && !Gate::is_right(-90.5));
}

#[tokio::test]
async fn who_waits_for_a_permit_is_turned_away_when_it_closes() {
    let ledger_fails: fn(&Gate) = |gate| assert!(gate.pause_all(Reason::Ledger, at(0)));
    let worker_stops: fn(&Gate) = |gate| gate.stop.cancel();
    for (pause, rejected) in
        [(ledger_fails, Rejected(Some(Reason::Ledger))), (worker_stops, Rejected(None))]
    {
        let gate = gate();
        let mut taken = Vec::new();
        for _ in 0..4 {
            taken.push(gate.enter(Kind::Refund).await.unwrap());
        }
        assert!(gate.enter(Kind::RefundOtp).await.is_ok(), "each kind has its own");
        let fifth = gate.enter(Kind::Refund);
        tokio::pin!(fifth);
        assert!(futures_util::poll!(&mut fifth).is_pending());
        pause(&gate);
        let turned_away = tokio::time::timeout(Duration::from_secs(5), fifth).await.unwrap();
        assert_eq!(turned_away.err().as_ref(), Some(&rejected));
        assert_eq!(gate.enter(Kind::Refund).await.err(), Some(rejected));
        // What is begun goes on.
        drop(gate.reacquire(Kind::Refund, Purpose::Inquiry, taken.pop()).await);
        drop(gate.reacquire(Kind::Refund, Purpose::Inquiry, None).await);
    }
}

#[tokio::test]
async fn after_an_outage_one_call_at_a_time_shows_whether_it_is_over() {
    let gate = gate();
    (0..10).for_each(|second| gate.saw(Kind::Refund, ours("a"), OUTAGE_SEEN, at(second)));
    gate.resume(Kind::Refund, at(20));
    assert_eq!(gate.limit(Kind::Refund), 1);
    gate.saw(Kind::Refund, ours("a"), HealthSignal::Nothing, at(21));
    assert_eq!(gate.limit(Kind::Refund), 1);
    gate.saw(Kind::Refund, ours("a"), HealthSignal::Fine, at(22));
    assert_eq!(gate.limit(Kind::Refund), 4);
}

#[test]
fn accounts_of_commands_that_eko_refuses_close_nothing_while_others_work() {
    let gate = gate();
    for second in 0..200 {
        let id = second.to_string();
        gate.saw(Kind::Refund, own(&id), UNAUTHORIZED, at(second));
        if second % 5 == 0 {
            gate.saw(Kind::Refund, ours("good"), HealthSignal::Fine, at(second));
        }
        assert_eq!(paused(&gate, Kind::Refund), None, "after {second} s");
    }
    assert_eq!(gate.refuses_ours(Kind::Refund), None);
}

#[test]
fn a_refused_account_of_a_command_s_own_does_not_confirm_that_ours_is_refused() {
    let gate = gate();
    gate.saw(Kind::Refund, own("a"), UNAUTHORIZED, at(0));
    gate.saw(Kind::Refund, ours("b"), UNAUTHORIZED, at(1));
    gate.saw(Kind::Refund, own("c"), UNAUTHORIZED, at(2));
    assert_eq!(paused(&gate, Kind::Refund), None);
    assert_eq!(gate.refuses_ours(Kind::Refund), Some(Reason::Unauthorized));
    gate.saw(Kind::Refund, ours("d"), UNAUTHORIZED, at(3));
    assert_eq!(paused(&gate, Kind::Refund), Some(Reason::Unauthorized));
    gate.serves(Kind::Refund, true, at(4));
    assert_eq!(gate.refuses_ours(Kind::Refund), Some(Reason::Unauthorized), "not ours was taken");
    gate.serves(Kind::Refund, false, at(5));
    assert_eq!(gate.refuses_ours(Kind::Refund), None);
}

#[test]
fn where_all_bring_accounts_of_their_own_ten_refused_in_a_row_close() {
    let gate = gate();
    for round in [0, 10] {
        for id in 0..9 {
            gate.saw(Kind::Refund, own(&id.to_string()), UNAUTHORIZED, at(round));
        }
        assert_eq!(paused(&gate, Kind::Refund), None, "also when it was just resumed");
        gate.saw(Kind::Refund, own("tenth"), UNAUTHORIZED, at(round));
        assert_eq!(paused(&gate, Kind::Refund), Some(Reason::Unauthorized));
        gate.resume(Kind::Refund, at(round + 1));
    }
}

#[test]
fn a_pause_that_is_probed_in_vain_lets_a_command_show_now_and_then() {
    let gate = gate();
    gate.pause(Kind::Refund, Reason::Outage, at(0));
    let tried: Vec<_> = (1..=7)
        .filter(|probe| {
            assert_eq!(gate.next_probe(Kind::Refund), *probe);
            gate.is_blind_trial_due(Kind::Refund, Reason::Outage, at(300), at(10))
        })
        .collect();
    assert_eq!(tried, [3, 6]);
}

#[test]
fn an_otp_shows_whether_an_outage_is_over_only_after_long_or_when_another_kind_works() {
    let gate = gate();
    let is_due =
        |second| gate.is_blind_trial_due(Kind::RefundOtp, Reason::Outage, at(300), at(second));
    gate.serves(Kind::Refund, false, at(9));
    gate.pause(Kind::RefundOtp, Reason::Outage, at(10));
    (0..3).for_each(|_| _ = gate.next_probe(Kind::RefundOtp));
    assert!(!is_due(309));
    assert!(is_due(310));
    gate.serves(Kind::Refund, false, at(11));
    assert!(is_due(12), "a refund went well since");
    let for_keys = gate.is_blind_trial_due(Kind::RefundOtp, Reason::Unauthorized, at(300), at(12));
    assert!(for_keys, "what is refused for a fault of ours was not executed");
}
