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
        let verdict =
            Verdict::Unclear { cause: Cause::RateLimited, after, fallback: Fallback::Repeat };
        answered(&a_refund(), &history([attempt(1.0, verdict)]), 1.0)
    };
    assert_eq!(limited(60), inquire_after(60.0, Cause::RateLimited));
    assert_eq!(limited(9_999), inquire_after(300.0, Cause::RateLimited));
}

#[test]
fn a_refund_seen_by_an_inquiry_has_succeeded() {
    for doubtful in [
        attempt(1.0, timed_out()),
        attempt(1.0, unclear(Fallback::Wait)),
        attempt(1.0, unclear(Fallback::Refuse(refusal(Code::WrongOtp)))),
        open_attempt(0.0),
        suspicion(30.0, SuspicionReason::Redelivered),
        suspicion(0.0, SuspicionReason::TidDoubted),
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
    // Eko takes its timestamp for 120 s, and may begin to execute it at the last moment.
    assert_eq!(pending(149.9, 5), inquire_after(5.0, Cause::Timeout));
    assert_eq!(pending(150.0, 1), inquire_after(5.0, Cause::Timeout));
    assert_eq!(pending(150.0, 2), Step::Attempt);
}

#[test]
fn the_inquiry_that_is_missing_comes_as_soon_as_it_can_count() {
    let history = history([attempt(1.0, timed_out()), read(Reading::RefundPending, 120.0, 4)]);
    assert_eq!(answered(&a_refund(), &history, 120.0), inquire_after(30.0, Cause::Timeout));
}

#[test]
fn an_interrupted_attempt_is_over_when_its_timestamp_is() {
    let pending = |last| {
        let history = history([open_attempt(0.0), read(Reading::RefundPending, last, 2)]);
        answered(&a_refund(), &history, last)
    };
    assert_eq!(ready(&a_refund(), &history([open_attempt(0.0)]), 1.0), Step::Inquire);
    assert_eq!(pending(149.9), inquire_after(5.0, Cause::Interrupted));
    assert_eq!(pending(150.0), Step::Attempt);
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
                read(Reading::RefundPending, 160.0, 3),
                read(other.clone(), 170.0, 1),
                read(Reading::RefundPending, 180.0, times),
            ])
        };
        assert_ne!(answered(&a_refund(), &between(1), 180.0), Step::Attempt, "{other:?}");
        assert_eq!(answered(&a_refund(), &between(2), 180.0), Step::Attempt, "{other:?}");
    }
}

#[test]
fn an_inquiry_without_an_answer_says_nothing_either_way() {
    let history = history([
        attempt(1.0, timed_out()),
        read(Reading::RefundPending, 6.0, 1),
        read(Reading::NoAnswer(Cause::Timeout), 30.0, 1),
        read(Reading::RefundPending, 150.0, 1),
        read(Reading::NoAnswer(Cause::Network), 160.0, 1),
    ]);
    assert_eq!(answered(&a_refund(), &history, 160.0), Step::Attempt);
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
    assert_eq!(waits(86_390.0, 99), inquire_after(10.0, Cause::Timeout));
}

#[test]
fn what_never_becomes_clear_is_unresolved() {
    let history = history([attempt(1.0, timed_out()), read(Reading::InProgress, 86_400.0, 300)]);
    assert_eq!(ready(&a_refund(), &history, 86_400.0), Step::Inquire);
    let late = answered(&a_refund(), &history, 86_400.0);
    assert_eq!(end(&late), ends("unresolved", Code::Timeout));
    let before = answered(&a_refund(), &history, 86_399.9);
    assert_eq!(end(&before), None);
}

#[test]
fn a_claimed_success_is_never_sent_again() {
    let claimed = |last, times| {
        let claim = attempt(1.0, unclear(Fallback::Wait));
        let history = history([claim, read(Reading::RefundPending, last, times)]);
        answered(&a_refund(), &history, last)
    };
    assert_eq!(end(&claimed(80_000.0, 900)), None);
    assert_ne!(claimed(80_000.0, 900), Step::Attempt);
    assert_eq!(end(&claimed(86_401.0, 901)), ends("unresolved", Code::BadResponse));
}

#[test]
fn a_refusal_after_an_unclear_attempt_is_inquired_too() {
    for doubtful in
        [attempt(1.0, timed_out()), open_attempt(0.0), suspicion(1.0, SuspicionReason::Redelivered)]
    {
        let refused_after = |readings: &[Entry]| {
            let before = [
                doubtful.clone(),
                read(Reading::RefundPending, 181.0, 2),
                attempt(182.0, refused(Code::WrongOtp)),
            ];
            history(before.into_iter().chain(readings.iter().cloned()))
        };
        let command = a_refund();
        assert_eq!(answered(&command, &refused_after(&[]), 182.0), Step::Inquire);
        let once = refused_after(&[read(Reading::RefundPending, 331.0, 1)]);
        assert_eq!(end(&answered(&command, &once, 331.0)), None);
        let twice = refused_after(&[read(Reading::RefundPending, 331.0, 2)]);
        assert_eq!(end(&answered(&command, &twice, 331.0)), ends("rejected", Code::WrongOtp));
        let refunded = refused_after(&[read(refunded(), 183.0, 1)]);
        assert_eq!(answered(&command, &refunded, 183.0), succeeded(ConfirmedBy::Inquiry));
    }
}

#[test]
fn a_doubtful_refusal_holds_once_nothing_was_executed() {
    let doubtful = |code| attempt(1.0, unclear(Fallback::Refuse(refusal(code))));
    let step = |code, reading| {
        answered(&a_refund(), &history([doubtful(code), read(reading, 150.0, 2)]), 150.0)
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
        let pair = [attempt(1.0, timed_out()), read(Reading::RefundPending, 150.0, 2)];
        history(std::iter::repeat_n(pair, times).flatten())
    };
    assert_eq!(answered(&a_refund(), &disproven(2), 150.0), Step::Attempt);
    let third = answered(&a_refund(), &disproven(3), 150.0);
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
        read(Reading::RefundPending, 150.0, 2),
    ]);
    assert_eq!(answered(&a_refund(), &history, 150.0), Step::Attempt);
}

#[test]
fn what_turns_out_not_executed_after_its_deadline_has_expired() {
    let history = history([attempt(1.0, timed_out()), read(Reading::RefundPending, 150.0, 2)]);
    let step = answered(&expiring(a_refund(), 20.0), &history, 150.0);
    assert_eq!(end(&step), ends("expired", Code::DeadlinePassed));
}

/// Two readings of 3, of which the last was asked when the command was so old, at this time of Eko.
fn pending_twice(proven: f64, eko_time: Option<f64>) -> Entry {
    let age = Age::measured(Duration::from_secs_f64(proven));
    let (reading, first, last) = (Reading::RefundPending, at(0.0), at(proven));
    let eko_time = eko_time.map(at);
    Entry::Inquiry(Inquiry { reading, first, last, times: 2, age, eko_time })
}

#[test]
fn a_call_is_over_when_eko_s_clock_says_so_too() {
    let after = |eko_time| {
        answered(
            &a_refund(),
            &history([attempt(1.0, timed_out()), pending_twice(200.0, eko_time)]),
            200.0,
        )
    };
    assert_eq!(after(Some(150.0)), Step::Attempt);
    // A clock of ours that was ahead, or an answer that a gateway had kept.
    assert_ne!(after(Some(149.0)), Step::Attempt);
    assert_eq!(after(None), Step::Attempt, "where Eko does not tell, what was measured counts");
}

#[test]
fn a_wall_clock_that_was_set_is_no_time_that_passed() {
    let mut history = history([attempt(1.0, timed_out()), pending_twice(6.0, Some(200.0))]);
    history.measure(now(6.0));
    // Ours was set a minute forward, and Eko's with it: five seconds have passed.
    let set = Now { wall: at(206.0), ..now(6.0) };
    let step =
        decide(Task::of(&a_refund()), &history, Trigger::Answered, &conditions(&policy(), set));
    assert_eq!(step, inquire_after(10.0, Cause::Timeout));
}

#[test]
fn what_no_process_measured_counts_as_no_time() {
    let open = |inquired| history([open_attempt(0.0), pending_twice(inquired, Some(100_000.0))]);
    assert_ne!(answered(&a_refund(), &open(20.0), 20.0), Step::Attempt);
    assert_eq!(answered(&a_refund(), &open(150.0), 150.0), Step::Attempt);
}

#[test]
fn a_timestamp_in_the_past_is_over_sooner_and_one_ahead_of_the_clock_later() {
    let signed = |lead: i64| {
        let stamp = at(0.0).as_millisecond() + lead;
        Attempt { signed: Some(Signed { stamp, lead }), ..begun(0.0) }
    };
    let over = |lead, seconds| {
        let history =
            history([Entry::Attempt(signed(lead)), pending_twice(seconds, Some(seconds))]);
        answered(&a_refund(), &history, seconds) == Step::Attempt
    };
    assert!(over(-80_000, 70.0) && !over(-80_000, 69.9));
    assert!(over(60_000, 210.0) && !over(60_000, 209.9));
}

#[test]
fn an_attempt_of_an_older_version_may_have_been_signed_when_it_was_sent() {
    let over = |seconds| {
        let older = Entry::Attempt(Attempt { signed: None, ..begun(0.0) });
        let history = history([older, pending_twice(seconds, Some(seconds))]);
        answered(&a_refund(), &history, seconds) == Step::Attempt
    };
    assert!(over(180.0) && !over(179.9));
}

#[test]
fn a_suspected_attempt_that_began_long_before_is_over_sooner() {
    let over = |seconds| {
        let before = Duration::from_secs(100);
        let why = SuspicionReason::Redelivered;
        let suspicion = Suspicion { at: at(0.0), age: age(0.0), before, why };
        let history = history([Entry::Suspicion(suspicion), pending_twice(seconds, Some(seconds))]);
        answered(&a_refund(), &history, seconds) == Step::Attempt
    };
    assert!(over(80.0) && !over(79.9));
}

#[test]
fn a_later_suspicion_takes_nothing_from_an_attempt_that_is_in_doubt() {
    let why = SuspicionReason::LedgerForgot;
    let long_known =
        Suspicion { at: at(20.0), age: age(20.0), before: Duration::from_secs(3_600), why };
    let after = |attempt: &Entry, seconds| {
        let entries = [
            attempt.clone(),
            Entry::Suspicion(long_known.clone()),
            pending_twice(seconds, Some(seconds)),
        ];
        answered(&a_refund(), &history(entries), seconds)
    };
    assert_eq!(end(&after(&open_attempt(10.0), 159.9)), None);
    assert_ne!(after(&open_attempt(10.0), 159.9), Step::Attempt, "our own call is not over");
    assert_eq!(after(&open_attempt(10.0), 160.0), Step::Attempt);
    let claimed = attempt(1.0, unclear(Fallback::Wait));
    assert_ne!(after(&claimed, 80_000.0), Step::Attempt, "nothing short of a 4 ends it");
    let refused = attempt(1.0, unclear(Fallback::Refuse(refusal(Code::EkoRefused))));
    assert_eq!(end(&after(&refused, 151.0)), ends("rejected", Code::EkoRefused));
}

#[test]
fn what_our_setup_or_an_outage_refuses_is_tried_until_the_give_up_time() {
    for cause in [Cause::EkoUnavailable, Cause::Unauthorized, Cause::Misconfigured, Cause::Clock] {
        let pair = [attempt(1.0, Verdict::unclear(cause)), read(Reading::RefundPending, 150.0, 2)];
        let often = history(std::iter::repeat_n(pair, 9).flatten());
        assert_eq!(answered(&a_refund(), &often, 150.0), Step::Attempt, "{cause:?}");
        let late = answered(&a_refund(), &often, 86_400.0);
        assert_eq!(end(&late), ends("failed", cause.code()), "{cause:?}");
    }
}

#[test]
fn a_refund_without_its_message_is_settled_and_never_attempted() {
    let lost = |entries: &[Entry], seconds| {
        let history = history(entries.iter().cloned());
        let task = Task::without(Message::Lost, Kind::Refund);
        decide(task, &history, Trigger::Answered, &conditions(&policy(), now(seconds)))
    };
    assert_eq!(end(&lost(&[], 1.0)), ends("failed", Code::MessageLost));
    assert_eq!(lost(&[open_attempt(0.0)], 1.0), Step::Inquire);
    let pending = |seconds| [open_attempt(0.0), pending_twice(seconds, Some(seconds))];
    assert_eq!(end(&lost(&pending(149.0), 149.0)), None);
    assert_eq!(end(&lost(&pending(150.0), 150.0)), ends("failed", Code::MessageLost));
    let refunded = [open_attempt(0.0), read(refunded(), 2.0, 1)];
    assert_eq!(lost(&refunded, 2.0), succeeded(ConfirmedBy::Inquiry));
}

#[test]
fn an_otp_without_its_message_may_have_been_sent() {
    let lost = |entry: Entry| {
        let task = Task::without(Message::Lost, Kind::RefundOtp);
        end(&decide(task, &history([entry]), Trigger::Ready, &conditions(&policy(), now(40.0))))
    };
    assert_eq!(lost(open_attempt(0.0)), ends("unresolved", Code::MessageLost));
    assert_eq!(lost(attempt(1.0, unavailable(None))), ends("failed", Code::MessageLost));
}

#[test]
fn a_refund_that_our_settings_cannot_read_waits_for_them() {
    let unreadable = |seconds| {
        let history = history([open_attempt(0.0), pending_twice(150.0, Some(150.0))]);
        let task = Task::without(Message::Unreadable, Kind::Refund);
        decide(task, &history, Trigger::Answered, &conditions(&policy(), now(seconds)))
    };
    assert_eq!(unreadable(150.0), retry_after(300.0, Cause::Misconfigured));
    assert_eq!(end(&unreadable(86_400.0)), ends("failed", Code::Timeout));
}
