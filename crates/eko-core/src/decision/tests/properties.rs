use proptest::prelude::*;

use super::*;

/// Seconds that lie around every limit of the policies below.
fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![(0_u32..200).prop_map(f64::from), (0_u32..200_000).prop_map(f64::from), Just(1e18),]
}

fn cause() -> impl Strategy<Value = Cause> {
    proptest::sample::select(&Cause::ALL[..])
}

fn after() -> impl Strategy<Value = Option<Duration>> {
    proptest::option::of(prop_oneof![
        (0_u64..1000).prop_map(Duration::from_secs),
        Just(Duration::MAX)
    ])
}

fn fallback() -> impl Strategy<Value = Fallback> {
    prop_oneof![
        Just(Fallback::Repeat),
        Just(Fallback::Wait),
        Just(Fallback::Refuse(refusal(Code::EkoRefused))),
        Just(Fallback::Refuse(refusal(Code::NotRefundable))),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(done()),
        Just(refused(Code::WrongOtp)),
        (cause(), after()).prop_map(|(cause, after)| Verdict::NotNow { cause, after }),
        (cause(), after(), fallback()).prop_map(|(cause, after, fallback)| Verdict::Unclear {
            cause,
            after,
            fallback
        }),
    ]
}

fn reading() -> impl Strategy<Value = Reading> {
    prop_oneof![
        4 => Just(Reading::RefundPending),
        1 => Just(refunded()),
        1 => Just(Reading::Succeeded),
        1 => Just(Reading::Failed),
        1 => Just(Reading::InProgress),
        1 => Just(Reading::NotFound),
        1 => Just(Reading::Contradictory),
        1 => cause().prop_map(Reading::NoAnswer),
    ]
}

fn why() -> impl Strategy<Value = SuspicionReason> {
    prop_oneof![Just(SuspicionReason::Redelivered), Just(SuspicionReason::TidDoubted)]
}

fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        3 => (seconds(), seconds(), proptest::option::of(verdict())).prop_map(
            |(began, ended, verdict)| {
                let ended = verdict.map(|verdict| Ended { at: at(ended), age: age(ended), verdict });
                Entry::Attempt(Attempt { ended, ..begun(began) })
            }
        ),
        4 => (reading(), seconds(), 1_u32..4, proptest::option::of(seconds())).prop_map(
            |(reading, last, times, eko_time)| match read(reading, last, times) {
                Entry::Inquiry(inquiry) => {
                    Entry::Inquiry(Inquiry { eko_time: eko_time.map(at), ..inquiry })
                }
                other => other,
            }
        ),
        1 => (seconds(), why()).prop_map(|(at, why)| suspicion(at, why)),
    ]
}

/// Any evidence whatsoever, in any order.
fn any_history() -> impl Strategy<Value = History> {
    proptest::collection::vec(entry(), 0..7).prop_map(history)
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let duration = || (0_u64..400).prop_map(Duration::from_secs);
    (
        duration(),
        duration(),
        duration(),
        duration(),
        duration(),
        (duration(), duration()),
        0_u32..5,
        any::<bool>(),
    )
        .prop_map(
            |(initial, max, give_up, spacing, quiet, (timeout, tolerance), most, preflight)| {
                let backoff = Backoff { initial, max };
                Policy {
                    retry: backoff,
                    give_up_otp: give_up,
                    give_up_refund: give_up * 3,
                    otp_resend_spacing: spacing,
                    settle: backoff,
                    settle_quiet: quiet,
                    settle_give_up: give_up * 2,
                    refund_max_attempts: most,
                    preflight,
                    call_timeout: timeout,
                    stamp_tolerance: tolerance,
                }
            },
        )
}

/// All that a decision takes.
#[derive(Debug)]
struct Question {
    expiry: Option<f64>,
    history: History,
    policy: Policy,
    trigger: Trigger,
    jitter: f64,
    now: f64,
}

impl Question {
    fn put(&self, mut command: Command) -> Step {
        command.expiry = self.expiry.map(at);
        let task = Task::of(&command);
        let conditions =
            Conditions { policy: &self.policy, now: now(self.now), jitter: self.jitter };
        decide(task, &self.history, self.trigger, &conditions)
    }
}

prop_compose! {
    fn question()(
        expiry in proptest::option::of(seconds()),
        history in any_history(),
        policy in any_policy(),
        is_ready in any::<bool>(),
        jitter in 0.0_f64..=1.0,
        now in seconds(),
    ) -> Question {
        let trigger = if is_ready { Trigger::Ready } else { Trigger::Answered };
        Question { expiry, history, policy, trigger, jitter, now }
    }
}

/// Written from the design's words, not from the code: whether the last thing that may have
/// been executed has been followed by nothing that proves it was not.
fn is_open(history: &History, policy: &Policy) -> bool {
    let mut open = false;
    let mut was_doubted = false;
    let mut over = (Duration::ZERO, at(0.0));
    let mut never = false;
    let mut was_not_refundable = false;
    // How old the command was when each reading was asked for, and Eko's time.
    let mut pending: Vec<(Duration, Option<Timestamp>)> = Vec::new();
    let lasting = policy.stamp_tolerance + policy.settle_quiet;
    for entry in &history.entries {
        match entry {
            Entry::Attempt(attempt) => {
                pending.clear();
                never = false;
                was_not_refundable = is_not_refundable(attempt);
                let ended = attempt.ended.as_ref();
                // Its timestamp is as old as the attempt itself here.
                let age = attempt.age.proven.saturating_add(lasting);
                let ended_age = ended.map_or(Duration::ZERO, |ended| ended.age.proven);
                let age = age.max(ended_age.saturating_add(policy.settle_quiet));
                over = (age, saturating_add(attempt.began, lasting));
                match ended.map(|ended| &ended.verdict) {
                    None | Some(Verdict::Unclear { .. }) => {
                        (open, was_doubted) = (true, true);
                        never = matches!(
                            ended.map(|ended| &ended.verdict),
                            Some(Verdict::Unclear { fallback: Fallback::Wait, .. })
                        );
                    }
                    Some(Verdict::Refused(_)) => open = was_doubted,
                    Some(Verdict::Done(..) | Verdict::NotNow { .. }) => open = false,
                }
            }
            Entry::Suspicion(suspicion) => {
                // What was in doubt before stays so, beside what is suspected.
                let is_beside = open && (never || !is_proven(&pending, over));
                pending.clear();
                let lasting = lasting + policy.call_timeout;
                let age = suspicion.age.proven.saturating_add(lasting);
                let eko_time = saturating_add(suspicion.at, lasting);
                over = if is_beside {
                    (over.0.max(age), over.1.max(eko_time))
                } else {
                    (age, eko_time)
                };
                never &= is_beside;
                was_not_refundable &= is_beside;
                (open, was_doubted) = (true, true);
            }
            Entry::Inquiry(inquiry) => match inquiry.reading {
                Reading::RefundPending => {
                    let asked = (inquiry.age.proven, inquiry.eko_time);
                    pending.extend((0..inquiry.times).map(|_| asked));
                }
                Reading::NoAnswer(_) => {}
                // "Not refundable" is what Eko says of a transfer that succeeded.
                Reading::Succeeded if was_not_refundable => {
                    let asked = (inquiry.age.proven, inquiry.eko_time);
                    pending.extend((0..inquiry.times).map(|_| asked));
                }
                _ => pending.clear(),
            },
        }
    }
    open && (never || !is_proven(&pending, over))
}

/// Whether readings that agree are enough, and one of them was asked when the call was over.
fn is_proven(pending: &[(Duration, Option<Timestamp>)], over: (Duration, Timestamp)) -> bool {
    let is_after = |&(asked, eko_time): &(Duration, Option<Timestamp>)| {
        asked >= over.0 && eko_time.is_none_or(|eko_time| eko_time >= over.1)
    };
    pending.len() >= 2 && pending.iter().any(is_after)
}

fn is_not_refundable(attempt: &Attempt) -> bool {
    match attempt.ended.as_ref().map(|ended| &ended.verdict) {
        Some(
            Verdict::Refused(refusal)
            | Verdict::Unclear { fallback: Fallback::Refuse(refusal), .. },
        ) => refusal.problem.code == Code::NotRefundable,
        _ => false,
    }
}

fn delay(step: &Step) -> Option<Duration> {
    match step {
        Step::RetryAfter { delay, .. } | Step::InquireAfter { delay, .. } => Some(*delay),
        Step::Attempt | Step::Inquire | Step::Finish(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4096,
        max_global_rejects: 1_000_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_question_has_an_answer(question in question()) {
        question.put(a_refund());
        question.put(an_otp());
    }

    #[test]
    fn what_may_have_been_executed_is_neither_denied_nor_attempted(question in question()) {
        prop_assume!(is_open(&question.history, &question.policy));
        let step = question.put(a_refund());
        prop_assert_ne!(&step, &Step::Attempt);
        let outcome = end(&step).map(|(outcome, _)| outcome);
        prop_assert!(!matches!(outcome, Some("failed" | "rejected" | "expired")), "{step:?}");
    }

    #[test]
    fn who_inquires_first_needs_the_same_proof(question in question()) {
        prop_assume!(question.policy.preflight && question.history.attempts() == 0);
        let feared = suspicion(0.0, SuspicionReason::Redelivered);
        let entries = std::iter::once(feared).chain(question.history.entries.iter().cloned());
        let is_pending = matches!(
            question.history.entries.last(),
            Some(Entry::Inquiry(Inquiry { reading: Reading::RefundPending, .. }))
        );
        prop_assume!(is_pending && is_open(&history(entries), &question.policy));
        prop_assert_ne!(question.put(a_refund()), Step::Attempt);
    }

    #[test]
    fn no_success_without_evidence(question in question()) {
        let is_proof = |entry: &Entry| matches!(
            entry,
            Entry::Inquiry(Inquiry { reading: Reading::Refunded(..), .. })
                | Entry::Attempt(Attempt { ended: Some(Ended { verdict: Verdict::Done(..), .. }), .. })
        );
        let is_proven = question.history.entries.iter().any(is_proof);
        let outcome = end(&question.put(a_refund())).map(|(outcome, _)| outcome);
        prop_assert_eq!(outcome == Some("succeeded"), is_proven);
    }

    #[test]
    fn an_otp_in_doubt_is_never_said_to_have_failed_or_expired(question in question()) {
        prop_assume!(question.history.each_attempt().any(Attempt::is_unclear));
        let step = question.put(an_otp());
        let outcome = end(&step).map(|(outcome, _)| outcome);
        prop_assert!(!matches!(outcome, Some("failed" | "expired")), "{step:?}");
    }

    #[test]
    fn no_attempt_after_the_deadline(question in question()) {
        prop_assume!(question.expiry.is_some_and(|expiry| question.now >= expiry));
        prop_assert_ne!(question.put(a_refund()), Step::Attempt);
        prop_assert_ne!(question.put(an_otp()), Step::Attempt);
    }

    #[test]
    fn no_otp_is_sent_again_after_the_give_up_time(question in question()) {
        let give_up = saturating_add(question.history.first_received, question.policy.give_up_otp);
        prop_assume!(question.history.attempts() > 0 && at(question.now) >= give_up);
        prop_assert_ne!(question.put(an_otp()), Step::Attempt);
    }

    #[test]
    fn an_otp_is_sent_four_times_at_most_without_an_answer(mut question in question()) {
        let unclear = std::iter::repeat_n(attempt(1.0, timed_out()), 4);
        question.history.entries.extend(unclear);
        prop_assert_ne!(question.put(an_otp()), Step::Attempt);
    }

    #[test]
    fn nobody_waits_longer_than_the_longest_delay(question in question()) {
        let policy = &question.policy;
        if let Some(delay) = delay(&question.put(a_refund())) {
            prop_assert!(delay <= policy.retry.max.max(policy.settle.initial), "{delay:?}");
        }
        let future = saturating_add(at(question.now), policy.retry.max.max(policy.otp_resend_spacing));
        let ends = question.history.entries.iter().all(|entry| match entry {
            Entry::Attempt(Attempt { began, ended, .. }) => {
                ended.as_ref().map_or(*began, |ended| ended.at) <= at(question.now)
            }
            Entry::Inquiry(_) | Entry::Suspicion(_) => true,
        });
        if let Some(delay) = delay(&question.put(an_otp())).filter(|_| ends) {
            prop_assert!(saturating_add(at(question.now), delay) <= future, "{delay:?}");
        }
    }

    #[test]
    fn nobody_who_need_not_settle_waits_past_the_deadline_or_the_give_up_time(
        question in question(),
    ) {
        prop_assume!(!is_open(&question.history, &question.policy));
        if let Some(delay) = delay(&question.put(a_refund())) {
            let due = saturating_add(at(question.now), delay);
            let give_up = saturating_add(at(0.0), question.policy.give_up_refund);
            prop_assert!(due <= give_up, "past the give-up time: {delay:?}");
            prop_assert!(question.expiry.is_none_or(|expiry| due <= at(expiry)), "{delay:?}");
        }
    }
}
