//! What people do beside a worker: pauses, the audit, and a look at refunds in doubt.

use super::*;

const PERSON: &str = "asha@desk";

fn intent<'a>(action: Action, subject: &'a str) -> Intent<'a> {
    let (tid, reason) = (Some("13192443"), Some("Eko asked \"for\" it ₹"));
    Intent { person: PERSON, action, subject: Some(subject), tid, reason }
}

fn of_refunds(unsettled: &Unsettled) -> Vec<(&str, UnsettledState)> {
    unsettled.refunds.iter().map(|refund| (refund.id.as_str(), refund.state)).collect()
}

on_both_stores! {
    async fn a_pause_is_seen_by_the_worker_and_stays_until_it_is_ended(rig) {
        let ledger = rig.open().await;
        assert_eq!(ledger.operator_pauses().await.unwrap(), []);
        let mut desk = OperatorLedger::open(&rig.settings()).await.unwrap();
        assert_eq!(desk.pause(Kind::Refund, PERSON, "keys").await.unwrap(), None);
        assert_eq!(desk.pause(Kind::TransferOtp, PERSON, "too").await.unwrap(), None);
        let before = desk.pause(Kind::Refund, "another", "again").await.unwrap().unwrap();
        assert_eq!((before.person.as_str(), before.reason.as_str()), (PERSON, "keys"), "the first stays");
        let commits = ledger.commits().await.unwrap();
        let ledger = rig.reopen(ledger, 2).await;
        let paused = ledger.operator_pauses().await.unwrap();
        assert_eq!(paused.iter().map(|it| it.kind).collect::<Vec<_>>(), [Kind::Refund, Kind::TransferOtp]);
        assert_eq!(paused[0], before);
        assert_eq!(desk.resume(Kind::Refund).await.unwrap(), Some(before));
        assert_eq!(desk.resume(Kind::Refund).await.unwrap(), None);
        assert_eq!(ledger.operator_pauses().await.unwrap().len(), 1);
        assert_eq!(ledger.commits().await.unwrap(), commits, "people's commits are not a worker's");
    }

    async fn an_action_has_its_intent_first_and_its_result_once(rig) {
        let ledger = rig.open().await;
        let mut desk = OperatorLedger::open(&rig.settings()).await.unwrap();
        let first = desk.begin_action(intent(Action::DeadReplay, "a")).await.unwrap();
        let cut_off = desk.begin_action(intent(Action::DeadDrop, "b")).await.unwrap();
        assert!(cut_off > first, "{first} {cut_off}");
        desk.end_action(first, ActionResult::Done, "sent as a:replay-1").await.unwrap();
        desk.end_action(first, ActionResult::Failed, "what has ended stays").await.unwrap();
        let all = desk.audit(&AuditFilter::default()).await.unwrap();
        let told: Vec<_> = all.iter().map(|it| (it.action.as_str(), it.subject.as_deref(), it.result.as_deref())).collect();
        assert_eq!(told, [("dead_replay", Some("a"), Some("done")), ("dead_drop", Some("b"), None)]);
        assert_eq!(all[0].detail.as_deref(), Some("sent as a:replay-1"));
        assert_eq!((all[0].person.as_str(), all[0].reason.as_deref()), (PERSON, Some("Eko asked \"for\" it ₹")));
        assert!(all[0].ended.is_some() && all[1].ended.is_none());

        let about = |about: &str| AuditFilter { about: Some(about.to_owned()), since: None };
        assert_eq!(desk.audit(&about("b")).await.unwrap().len(), 1);
        assert_eq!(desk.audit(&about("13192443")).await.unwrap().len(), 2, "by its tid");
        assert_eq!(desk.audit(&about("c")).await.unwrap(), []);
        let since = |since| AuditFilter { about: None, since: Some(since) };
        assert_eq!(desk.audit(&since(all[1].at)).await.unwrap().len(), if all[0].at == all[1].at { 2 } else { 1 });
        let later = eko_core::decision::saturating_add(all[1].at, Duration::from_secs(1));
        assert_eq!(desk.audit(&since(later)).await.unwrap(), []);

        assert_eq!(ledger.prune_audit(all[0].at, 10).await.unwrap(), 0);
        assert_eq!(ledger.prune_audit(later, 1).await.unwrap(), 1);
        assert_eq!(desk.audit(&AuditFilter::default()).await.unwrap()[0].id, cut_off, "the oldest went");
        assert_eq!(ledger.prune_audit(later, 10).await.unwrap(), 1);
    }

    async fn refunds_in_doubt_and_unresolved_ones_are_listed_and_no_others(rig) {
        let ledger = rig.open().await;
        // In doubt: an unclear attempt, two readings, parked.
        let mut first = claimed(claim(&ledger, refund("in-doubt", "1", 0)).await);
        first.history.end(now(1), Verdict::unclear(Cause::Timeout));
        first.history.inquired(now(2), None, Reading::InProgress);
        first.history.inquired(now(3), None, Reading::InProgress);
        ledger.note(&first, ledger.until(60), true).await.unwrap();
        // Given up.
        let mut second = claimed(claim(&ledger, refund("given-up", "2", 4)).await);
        second.history.end(now(5), Verdict::unclear(Cause::Timeout));
        ledger.finish(second, &unresolved("given-up"), false).await.unwrap();
        // A worker died over it long ago.
        claim(&ledger, refund("died", "3", 6)).await;
        // None of them: it succeeded, it was refused for now, it moves no money.
        let done = claimed(claim(&ledger, refund("done", "4", 7)).await);
        ledger.finish(done, &succeeded("done", "4"), false).await.unwrap();
        let mut refused = claimed(claim(&ledger, refund("refused", "5", 8)).await);
        refused.history.end(now(9), Verdict::not_now(Cause::RateLimited));
        ledger.note(&refused, ledger.until(60), false).await.unwrap();
        // Nor one that was in doubt until its readings had shown that it was not executed.
        let mut disproven = claimed(claim(&ledger, refund("disproven", "6", 9)).await);
        disproven.history.end(now(9), Verdict::unclear(Cause::Timeout));
        disproven.history.inquired(now(10), None, Reading::RefundPending);
        disproven.history.inquired(now(11), None, Reading::RefundPending);
        ledger.note(&disproven, ledger.until(60), false).await.unwrap();
        let mut otp = claimed(claim(&ledger, request("otp", 10)).await);
        otp.history.end(now(11), Verdict::unclear(Cause::Timeout));
        ledger.note(&otp, ledger.until(60), true).await.unwrap();

        let unsettled = super::super::unsettled(&rig.settings()).await.unwrap();
        let expected = [
            ("in-doubt", UnsettledState::InDoubt),
            ("given-up", UnsettledState::Unresolved),
            ("died", UnsettledState::InDoubt),
        ];
        assert_eq!(of_refunds(&unsettled), expected);
        let refund = &unsettled.refunds[0];
        assert_eq!((refund.tid.as_deref(), refund.attempts, refund.since), (Some("1"), 1, at(0)));
        let reading = refund.last_reading.as_ref().unwrap();
        assert_eq!((reading.reading, reading.at, reading.times), ("in_progress", at(3), 2));
        assert_eq!(refund.next_inquiry, Some(at(60)));
        assert_eq!(unsettled.refunds[1].finished, Some(at(9)));
    }
}

#[tokio::test]
async fn nothing_is_made_or_migrated_for_a_person() {
    let rig = Rig::sqlite();
    assert!(OperatorLedger::open(&rig.settings()).await.is_err(), "there is none");
    assert!(!rig.path().exists());
    let connection = rusqlite::Connection::open(rig.path()).unwrap();
    connection.execute_batch(include_str!("../../migrations/sqlite/0001_commands.sql")).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    let error = OperatorLedger::open(&rig.settings()).await.err().unwrap();
    assert!(format!("{error:#}").contains("older version of eko-worker (schema 1)"), "{error:#}");
}
