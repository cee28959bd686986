use super::*;

#[test]
fn a_fresh_otp_is_asked_for_unless_it_has_expired() {
    assert_eq!(ready(&an_otp(), &history([]), 0.0), Step::Attempt);
    let late = ready(&expiring(an_otp(), 5.0), &history([]), 5.0);
    assert_eq!(end(&late), ends("expired", Code::DeadlinePassed));
}

#[test]
fn an_answered_otp_has_ended() {
    let sent = answered(&an_otp(), &history([attempt(1.0, done())]), 1.0);
    assert_eq!(sent, succeeded(ConfirmedBy::Response));
    let refused = history([attempt(1.0, refused(Code::AlreadyRefunded))]);
    let step = answered(&an_otp(), &refused, 1.0);
    assert_eq!(end(&step), ends("rejected", Code::AlreadyRefunded));
}

#[test]
fn a_refusal_for_now_is_retried_until_the_give_up_time() {
    let history = history([attempt(1.0, unavailable(None))]);
    let command = an_otp();
    assert_eq!(answered(&command, &history, 1.0), retry_after(0.5, Cause::EkoUnavailable));
    assert_eq!(ready(&command, &history, 1.5), Step::Attempt);
    assert_eq!(end(&ready(&command, &history, 120.0)), ends("failed", Code::EkoUnavailable));
    let late = ready(&expiring(command, 9.0), &history, 9.0);
    assert_eq!(end(&late), ends("expired", Code::DeadlinePassed));
}

#[test]
fn a_refused_timestamp_is_replaced_at_once_and_a_second_one_in_a_row_is_waited_out() {
    let refused = || attempt(1.0, Verdict::not_now(Cause::Clock));
    assert_eq!(answered(&an_otp(), &history([refused()]), 1.0), Step::Attempt);
    let twice = history([refused(), refused()]);
    assert_eq!(answered(&an_otp(), &twice, 1.0), retry_after(1.0, Cause::Clock));
    let again = history([refused(), attempt(1.0, unavailable(None)), refused()]);
    assert_eq!(answered(&an_otp(), &again, 1.0), Step::Attempt);
    let late = answered(&expiring(an_otp(), 1.0), &history([refused()]), 1.0);
    assert_eq!(end(&late), ends("expired", Code::DeadlinePassed));
}

#[test]
fn an_unclear_otp_is_sent_again_after_the_spacing() {
    let history = history([attempt(1.0, timed_out())]);
    assert_eq!(answered(&an_otp(), &history, 1.0), retry_after(30.0, Cause::Timeout));
    assert_eq!(ready(&an_otp(), &history, 30.9), retry_after(0.1, Cause::Timeout));
    assert_eq!(ready(&an_otp(), &history, 31.0), Step::Attempt);
}

#[test]
fn eko_s_wish_stretches_the_spacing() {
    let after = Some(Duration::from_secs(60));
    let verdict = Verdict::Unclear { cause: Cause::RateLimited, after, fallback: Fallback::Repeat };
    let step = answered(&an_otp(), &history([attempt(1.0, verdict)]), 1.0);
    assert_eq!(step, retry_after(60.0, Cause::RateLimited));
}

#[test]
fn an_interrupted_otp_is_sent_again_after_the_spacing() {
    let history = history([open_attempt(1.0)]);
    assert_eq!(ready(&an_otp(), &history, 2.0), retry_after(29.0, Cause::Interrupted));
    assert_eq!(ready(&an_otp(), &history, 31.0), Step::Attempt);
}

#[test]
fn three_re_sends_are_the_most() {
    let sent = |times| history(std::iter::repeat_n(attempt(1.0, timed_out()), times));
    assert_eq!(ready(&an_otp(), &sent(3), 31.0), Step::Attempt);
    let fourth = ready(&an_otp(), &sent(4), 31.0);
    assert_eq!(end(&fourth), ends("unresolved", Code::Timeout));
}

#[test]
fn a_re_send_that_would_come_too_late_is_not_waited_for() {
    let command = expiring(an_otp(), 31.0);
    let step = answered(&command, &history([attempt(1.0, timed_out())]), 1.0);
    assert_eq!(end(&step), ends("unresolved", Code::Timeout));
    let step = answered(&an_otp(), &history([attempt(91.0, timed_out())]), 91.0);
    assert_eq!(end(&step), ends("unresolved", Code::Timeout));
}

#[test]
fn a_re_send_that_comes_back_too_late_is_not_made() {
    let history = history([attempt(1.0, timed_out())]);
    let expired = ready(&expiring(an_otp(), 50.0), &history, 50.0);
    assert_eq!(end(&expired), ends("unresolved", Code::Timeout));
    // The broker or the worker was away meanwhile.
    let given_up = ready(&an_otp(), &history, 120.0);
    assert_eq!(end(&given_up), ends("unresolved", Code::Timeout));
}

#[test]
fn an_unclear_otp_that_is_then_refused_for_now_to_the_end_is_unresolved() {
    let history = history([attempt(1.0, timed_out()), attempt(31.0, unavailable(None))]);
    let command = an_otp();
    assert_eq!(answered(&command, &history, 31.0), retry_after(0.5, Cause::EkoUnavailable));
    let late = ready(&command, &history, 120.0);
    assert_eq!(end(&late), ends("unresolved", Code::EkoUnavailable));
    let late = ready(&expiring(command, 40.0), &history, 40.0);
    assert_eq!(end(&late), ends("unresolved", Code::EkoUnavailable));
}
