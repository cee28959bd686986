use super::*;

#[test]
fn a_fresh_refund_is_attempted() {
    assert_eq!(ready(&a_refund(), &history([]), 0.0), Step::Attempt);
}

#[test]
fn a_refund_that_comes_too_late_expires() {
    let command = expiring(a_refund(), 10.0);
    assert_eq!(ready(&command, &history([]), 9.999), Step::Attempt);
    assert_eq!(end(&ready(&command, &history([]), 10.0)), ends("expired", Code::DeadlinePassed));
}

#[test]
fn an_answered_refund_has_ended() {
    let history = |verdict| history([attempt(1.0, verdict)]);
    let command = a_refund();
    let success = answered(&command, &history(done()), 1.0);
    assert_eq!(success, succeeded(ConfirmedBy::Response));
    let refusal = answered(&command, &history(refused(Code::WrongOtp)), 1.0);
    assert_eq!(end(&refusal), ends("rejected", Code::WrongOtp));
}

#[test]
fn a_success_counts_after_the_deadline_too() {
    let command = expiring(a_refund(), 10.0);
    let late = answered(&command, &history([attempt(12.0, done())]), 12.0);
    assert_eq!(late, succeeded(ConfirmedBy::Response));
}

#[test]
fn a_refusal_for_now_is_waited_out_longer_and_longer() {
    let waits = |times: usize| {
        let attempts = (0..times).map(|_| attempt(1.0, unavailable(None)));
        answered(&a_refund(), &history(attempts), 1.0)
    };
    for (times, seconds) in [(1, 0.5), (2, 1.0), (3, 2.0), (10, 256.0), (11, 300.0), (40, 300.0)] {
        assert_eq!(waits(times), retry_after(seconds, Cause::EkoUnavailable), "{times}");
    }
}

#[test]
fn once_waited_out_it_is_attempted_again() {
    let history = history([attempt(1.0, unavailable(None))]);
    assert_eq!(ready(&a_refund(), &history, 1.5), Step::Attempt);
}

#[test]
fn eko_s_own_wish_counts_up_to_the_longest_delay() {
    let waits =
        |after| answered(&a_refund(), &history([attempt(1.0, unavailable(Some(after)))]), 1.0);
    assert_eq!(waits(0), retry_after(0.5, Cause::EkoUnavailable));
    assert_eq!(waits(90), retry_after(90.0, Cause::EkoUnavailable));
    assert_eq!(waits(100_000), retry_after(300.0, Cause::EkoUnavailable));
}

#[test]
fn no_wait_goes_past_the_deadline_or_the_give_up_time() {
    let history = history([attempt(1.0, unavailable(Some(60)))]);
    let command = expiring(a_refund(), 20.0);
    assert_eq!(answered(&command, &history, 5.0), retry_after(15.0, Cause::EkoUnavailable));
    let nearly = answered(&a_refund(), &history, 86_390.0);
    assert_eq!(nearly, retry_after(10.0, Cause::EkoUnavailable));
}

#[test]
fn refused_for_now_to_the_end_it_expires_or_fails_with_the_cause() {
    for (cause, code) in [
        (Cause::EkoUnavailable, Code::EkoUnavailable),
        (Cause::Network, Code::Network),
        (Cause::Clock, Code::Unauthorized),
        (Cause::Misconfigured, Code::Misconfigured),
    ] {
        let history = history([attempt(1.0, Verdict::not_now(cause))]);
        for step in [ready, answered] {
            let late = step(&a_refund(), &history, 86_400.0);
            assert_eq!(end(&late), ends("failed", code));
            let late = step(&expiring(a_refund(), 9.0), &history, 9.0);
            assert_eq!(end(&late), ends("expired", Code::DeadlinePassed));
        }
    }
}

#[test]
fn another_transaction_in_progress_is_waited_out_then_inquired() {
    let in_progress = attempt(1.0, Verdict::not_now(Cause::InProgress));
    let waiting = history([in_progress.clone()]);
    assert_eq!(answered(&a_refund(), &waiting, 1.0), retry_after(0.5, Cause::InProgress));
    assert_eq!(ready(&a_refund(), &waiting, 1.5), Step::Inquire);
    let after = |reading| {
        answered(&a_refund(), &history([in_progress.clone(), read(reading, 2.0, 1)]), 2.0)
    };
    assert_eq!(after(Reading::RefundPending), Step::Attempt);
    assert_eq!(after(refunded()), succeeded(ConfirmedBy::Inquiry));
    assert_eq!(after(Reading::InProgress), inquire_after(5.0, Cause::InProgress));
    let silent = after(Reading::NoAnswer(Cause::Timeout));
    assert_eq!(silent, inquire_after(5.0, Cause::InProgress));
}

#[test]
fn a_suspicion_is_inquired_before_a_first_attempt() {
    for why in [SuspicionReason::Redelivered, SuspicionReason::TidDoubted] {
        let history = history([suspicion(30.0, why)]);
        assert_eq!(ready(&a_refund(), &history, 0.0), Step::Inquire);
    }
}

#[test]
fn a_suspicion_that_proves_empty_allows_a_first_attempt() {
    for why in [SuspicionReason::Redelivered, SuspicionReason::TidDoubted] {
        let pending = |last| {
            answered(
                &a_refund(),
                &history([suspicion(30.0, why), read(Reading::RefundPending, last, 2)]),
                last,
            )
        };
        // An older version may have signed it when it sent it, 30 s later.
        assert_eq!(end(&pending(209.9)), None);
        assert_ne!(pending(209.9), Step::Attempt);
        assert_eq!(pending(210.0), Step::Attempt);
    }
}

#[test]
fn preflight_inquires_before_a_first_attempt() {
    let policy = Policy { preflight: true, ..policy() };
    let step = |trigger, entries: &[Entry], seconds| {
        let history = history(entries.iter().cloned());
        decide(Task::of(&a_refund()), &history, trigger, &conditions(&policy, now(seconds)))
    };
    let after = |reading| step(Trigger::Answered, &[read(reading, 1.0, 1)], 1.0);
    assert_eq!(step(Trigger::Ready, &[], 0.0), Step::Inquire);
    // Somebody else's call may still be executed, as after a redelivery.
    let pending = |last| step(Trigger::Answered, &[read(Reading::RefundPending, last, 2)], last);
    assert_eq!(pending(179.9), inquire_after(10.0, Cause::Pending));
    assert_eq!(pending(180.0), Step::Attempt);
    assert_eq!(after(refunded()), succeeded(ConfirmedBy::Inquiry));
    // Eko itself judges what its inquiry does not forbid.
    assert_eq!(after(Reading::NotFound), Step::Attempt);
    let silent = [read(Reading::NoAnswer(Cause::Network), 1.0, 1)];
    assert_eq!(step(Trigger::Answered, &silent, 1.0), inquire_after(5.0, Cause::Pending));
    assert_eq!(step(Trigger::Ready, &silent, 6.0), Step::Inquire);
    let late = step(Trigger::Answered, &silent, 86_400.0);
    assert_eq!(end(&late), ends("failed", Code::EkoUnavailable));
}
