use super::*;

#[test]
fn an_unclear_refund_is_inquired_at_once() {
    let history = history([attempt(1.0, timed_out())]);
    assert_eq!(answered(&a_refund(), &history, 1.0), Step::Inquire);
    assert_eq!(ready(&a_refund(), &history, 99.0), Step::Inquire);
    // Its time does not matter: it may have been executed.
    assert_eq!(answered(&expiring(a_refund(), 0.0), &history, 1.0), Step::Inquire);
}

#[test]
fn where_eko_wishes_it_the_first_inquiry_waits() {
    let limited = |seconds| {
        let after = Some(Duration::from_secs(seconds));
        let verdict = Verdict::Unclear { cause: Cause::RateLimited, after, if_not: IfNot::Repeat };
        answered(&a_refund(), &history([attempt(1.0, verdict)]), 1.0)
    };
    assert_eq!(limited(60), inquire_after(60.0, Cause::RateLimited));
    assert_eq!(limited(9_999), inquire_after(300.0, Cause::RateLimited));
}

#[test]
fn a_refund_seen_by_an_inquiry_has_succeeded() {
    for doubtful in [
        attempt(1.0, timed_out()),
        attempt(1.0, unclear(IfNot::Wait)),
        attempt(1.0, unclear(IfNot::Refuse(refusal(Code::WrongOtp)))),
        open_attempt(0.0),
        suspicion(30.0, Why::Redelivered),
        suspicion(0.0, Why::TidDoubted),
    ] {
        let history = history([doubtful, read(refunded(), 2.0, 1)]);
        assert_eq!(answered(&a_refund(), &history, 2.0), succeeded(ConfirmedBy::Inquiry));
    }
}

#[test]
fn refund_pending_counts_when_read_twice_and_the_last_time_late_enough() {
    let pending = |last, times| {
        let history =
            history([attempt(1.0, timed_out()), read(Reading::RefundPending, last, times)]);
        answered(&a_refund(), &history, last)
    };
    assert_eq!(pending(1.0, 1), inquire_after(5.0, Cause::Timeout));
    assert_eq!(pending(6.0, 2), inquire_after(10.0, Cause::Timeout));
    assert_eq!(pending(30.9, 5), inquire_after(5.0, Cause::Timeout));
    assert_eq!(pending(31.0, 1), inquire_after(5.0, Cause::Timeout));
    assert_eq!(pending(31.0, 2), Step::Attempt);
}

#[test]
fn the_inquiry_that_is_missing_comes_as_soon_as_it_can_count() {
    let history = history([attempt(1.0, timed_out()), read(Reading::RefundPending, 20.0, 4)]);
    assert_eq!(answered(&a_refund(), &history, 20.0), inquire_after(11.0, Cause::Timeout));
}

#[test]
fn an_interrupted_attempt_is_quiet_only_after_the_longest_call() {
    let pending = |last| {
        let history = history([open_attempt(0.0), read(Reading::RefundPending, last, 2)]);
        answered(&a_refund(), &history, last)
    };
    assert_eq!(ready(&a_refund(), &history([open_attempt(0.0)]), 1.0), Step::Inquire);
    assert_eq!(pending(59.9), inquire_after(5.0, Cause::Interrupted));
    assert_eq!(pending(60.0), Step::Attempt);
}

#[test]
fn another_reading_in_between_starts_the_count_again() {
    for other in [
        Reading::InProgress,
        Reading::NotFound,
        Reading::Succeeded,
        Reading::Failed,
        Reading::Contradictory,
    ] {
        let between = |times| {
            history([
                attempt(1.0, timed_out()),
                read(Reading::RefundPending, 40.0, 3),
                read(other.clone(), 50.0, 1),
                read(Reading::RefundPending, 60.0, times),
            ])
        };
        assert_ne!(answered(&a_refund(), &between(1), 60.0), Step::Attempt, "{other:?}");
        assert_eq!(answered(&a_refund(), &between(2), 60.0), Step::Attempt, "{other:?}");
    }
}

#[test]
fn an_inquiry_without_an_answer_says_nothing_either_way() {
    let history = history([
        attempt(1.0, timed_out()),
        read(Reading::RefundPending, 6.0, 1),
        read(Reading::NoAnswer(Cause::Timeout), 30.0, 1),
        read(Reading::RefundPending, 40.0, 1),
        read(Reading::NoAnswer(Cause::Network), 50.0, 1),
    ]);
    assert_eq!(answered(&a_refund(), &history, 50.0), Step::Attempt);
}

#[test]
fn no_other_reading_ever_allows_an_attempt() {
    for reading in [
        Reading::InProgress,
        Reading::NotFound,
        Reading::Succeeded,
        Reading::Failed,
        Reading::Contradictory,
        Reading::NoAnswer(Cause::Network),
    ] {
        let history = history([attempt(1.0, timed_out()), read(reading, 80_000.0, 500)]);
        let step = answered(&a_refund(), &history, 80_000.0);
        assert_eq!(step, inquire_after(300.0, Cause::Timeout));
    }
}

#[test]
fn inquiries_grow_apart_and_stop_at_the_give_up_time() {
    let waits = |seconds, times| {
        let history = history([attempt(1.0, timed_out()), read(Reading::InProgress, 9.0, times)]);
        answered(&a_refund(), &history, seconds)
    };
    for (times, seconds) in [(1, 5.0), (2, 10.0), (3, 20.0), (7, 300.0), (99, 300.0)] {
        assert_eq!(waits(9.0, times), inquire_after(seconds, Cause::Timeout), "{times}");
    }
    assert_eq!(waits(86_391.0, 99), inquire_after(10.0, Cause::Timeout));
}

#[test]
fn what_never_becomes_clear_is_unresolved() {
    let history = history([attempt(1.0, timed_out()), read(Reading::InProgress, 86_401.0, 300)]);
    assert_eq!(ready(&a_refund(), &history, 86_401.0), Step::Inquire);
    let late = answered(&a_refund(), &history, 86_401.0);
    assert_eq!(end(&late), ends("unresolved", Code::Timeout));
    let before = answered(&a_refund(), &history, 86_400.9);
    assert_eq!(end(&before), None);
}

#[test]
fn a_claimed_success_is_never_sent_again() {
    let claimed = |last, times| {
        let claim = attempt(1.0, unclear(IfNot::Wait));
        let history = history([claim, read(Reading::RefundPending, last, times)]);
        answered(&a_refund(), &history, last)
    };
    assert_eq!(end(&claimed(80_000.0, 900)), None);
    assert_ne!(claimed(80_000.0, 900), Step::Attempt);
    assert_eq!(end(&claimed(86_401.0, 901)), ends("unresolved", Code::BadResponse));
}

#[test]
fn a_refusal_after_an_unclear_attempt_is_inquired_too() {
    for doubtful in [attempt(1.0, timed_out()), open_attempt(0.0), suspicion(1.0, Why::Redelivered)]
    {
        let refused_after = |readings: &[Entry]| {
            let before = [
                doubtful.clone(),
                read(Reading::RefundPending, 61.0, 2),
                attempt(62.0, refused(Code::WrongOtp)),
            ];
            history(before.into_iter().chain(readings.iter().cloned()))
        };
        let command = a_refund();
        assert_eq!(answered(&command, &refused_after(&[]), 62.0), Step::Inquire);
        let once = refused_after(&[read(Reading::RefundPending, 92.0, 1)]);
        assert_eq!(end(&answered(&command, &once, 92.0)), None);
        let twice = refused_after(&[read(Reading::RefundPending, 92.0, 2)]);
        assert_eq!(end(&answered(&command, &twice, 92.0)), ends("rejected", Code::WrongOtp));
        let refunded = refused_after(&[read(refunded(), 63.0, 1)]);
        assert_eq!(answered(&command, &refunded, 63.0), succeeded(ConfirmedBy::Inquiry));
    }
}

#[test]
fn a_doubtful_refusal_holds_once_nothing_was_executed() {
    let doubtful = |code| attempt(1.0, unclear(IfNot::Refuse(refusal(code))));
    let step = |code, reading| {
        answered(&a_refund(), &history([doubtful(code), read(reading, 31.0, 2)]), 31.0)
    };
    let pending = Reading::RefundPending;
    assert_eq!(end(&step(Code::EkoRefused, pending)), ends("rejected", Code::EkoRefused));
    // "Not refundable" is what Eko says of a transfer that succeeded; of no other refusal.
    let not_refundable = step(Code::NotRefundable, Reading::Succeeded);
    assert_eq!(end(&not_refundable), ends("rejected", Code::NotRefundable));
    assert_eq!(end(&step(Code::EkoRefused, Reading::Succeeded)), None);
}

#[test]
fn attempts_that_stay_unclear_are_counted() {
    let disproven = |times: usize| {
        let pair = [attempt(1.0, timed_out()), read(Reading::RefundPending, 31.0, 2)];
        history(std::iter::repeat_n(pair, times).flatten())
    };
    assert_eq!(answered(&a_refund(), &disproven(2), 31.0), Step::Attempt);
    let third = answered(&a_refund(), &disproven(3), 31.0);
    assert_eq!(end(&third), ends("failed", Code::Timeout));
}

#[test]
fn attempts_refused_for_now_are_not_counted() {
    let in_progress = || attempt(1.0, Verdict::not_now(Cause::InProgress));
    let history = history([
        in_progress(),
        attempt(1.0, unavailable(None)),
        in_progress(),
        attempt(1.0, timed_out()),
        read(Reading::RefundPending, 31.0, 2),
    ]);
    assert_eq!(answered(&a_refund(), &history, 31.0), Step::Attempt);
}

#[test]
fn what_turns_out_not_executed_after_its_deadline_has_expired() {
    let history = history([attempt(1.0, timed_out()), read(Reading::RefundPending, 31.0, 2)]);
    let step = answered(&expiring(a_refund(), 20.0), &history, 31.0);
    assert_eq!(end(&step), ends("expired", Code::DeadlinePassed));
}
