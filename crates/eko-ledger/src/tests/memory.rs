//! What a ledger says of itself, what it notices when it has lost commits, and its file.

use super::*;
use eko_core::history::Suspicion;

/// What raises a suspicion in a claim, if anything does.
fn suspicion(claim: &Claim) -> Option<SuspicionReason> {
    let (Claim::Fresh(claimed) | Claim::Due(claimed) | Claim::Interrupted(claimed)) = claim else {
        panic!("not claimed: {}", word(claim));
    };
    claimed.history.entries.iter().find_map(|entry| match entry {
        Entry::Suspicion(Suspicion { why, .. }) => Some(*why),
        Entry::Attempt(_) | Entry::Inquiry(_) => None,
    })
}

/// The store loses its last commit, as a standby does that did not get it.
async fn lose_a_commit(rig: &Rig) {
    let sql = match rig {
        Rig::Sqlite(_) => "UPDATE meta SET commits = commits - 1",
        Rig::Postgres(_) => "UPDATE commits SET count = count - 1",
    };
    alter_store(rig, sql).await;
}

on_both_stores! {
    async fn a_ledger_has_an_id_that_stays_and_is_new_until_it_has_kept_something(rig) {
        let ledger = rig.open().await;
        let id = ledger.identity().id.clone();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert!(ledger.identity().is_new);
        let ledger = rig.reopen(ledger, 2).await;
        assert!(ledger.identity().is_new, "somebody has only looked");
        claim(&ledger, request("a", 0)).await;
        drop(ledger);
        if let Rig::Sqlite(_) = rig {
            wait_until_free(&rig.path()).await;
        }
        let ledger = Ledger::open(&rig.settings(), &opening(3, [9; 32])).await.unwrap();
        assert_eq!((&ledger.identity().id, ledger.identity().is_new), (&id, false));
        let seen = Ledger::look(&rig.settings()).await.unwrap();
        assert_eq!((seen.meta.id, seen.place), (id, ledger.identity().place.clone()));
    }

    async fn a_commit_that_writes_is_counted_and_no_other(rig) {
        let ledger = rig.open().await;
        assert_eq!(ledger.commits().await.unwrap(), 0);
        let first = claimed(claim(&ledger, request("a", 0)).await);
        assert_eq!(ledger.commits().await.unwrap(), 1);
        assert_eq!(word(&claim(&ledger, request("a", 1)).await), "busy");
        ledger.backlog_counts().await.unwrap();
        ledger.probe().await.unwrap();
        assert_eq!(ledger.commits().await.unwrap(), 1);
        ledger.finish(first, &succeeded("a", "1"), false).await.unwrap();
        let ledger = rig.reopen(ledger, 2).await;
        claim(&ledger, request("b", 0)).await;
        assert_eq!(ledger.commits().await.unwrap(), 3, "whoever has made them");
    }

    async fn after_an_adoption_a_refund_that_is_unknown_is_inquired_first(rig) {
        let ledger = rig.open().await;
        let known = claimed(claim(&ledger, refund("known", "1", 0)).await);
        ledger.note(&known, ledger.until(5), false).await.unwrap();
        let before = ledger.adopt().await.unwrap().adopted.unwrap();
        let unknown = claim(&ledger, refund("unknown", "2", 6)).await;
        assert_eq!(suspicion(&unknown), Some(SuspicionReason::LedgerAdopted));
        assert!(!claimed(unknown).history.in_flight(), "no attempt begins");
        // The other ledger may have begun what this one knows as open.
        let known = claim(&ledger, refund("known", "1", 6)).await;
        assert_eq!(suspicion(&known), Some(SuspicionReason::LedgerAdopted));
        let otp = ClaimRequest { kind: Some(Kind::RefundOtp), ..refund("otp", "3", 6) };
        assert!(claimed(claim(&ledger, otp).await).history.in_flight(), "it moves no money");
        let ledger = rig.reopen(ledger, 2).await;
        assert_eq!(ledger.identity().adopted, Some(before), "it is kept");
        let unknown = claim(&ledger, refund("later", "4", 6)).await;
        assert_eq!(suspicion(&unknown), Some(SuspicionReason::LedgerAdopted));
        drop(ledger);
        if let Rig::Sqlite(_) = rig {
            wait_until_free(&rig.path()).await;
        }
        let opening = Opening { retention: Duration::ZERO, ..opening(3, KEY) };
        let ledger = Ledger::open(&rig.settings(), &opening).await.unwrap();
        assert_eq!(suspicion(&claim(&ledger, refund("trusted", "5", 6)).await), None);
    }

    async fn what_somebody_else_has_noticed_is_counted_and_makes_cautious(rig) {
        let ledger = rig.open().await;
        assert!(ledger.forget().await.unwrap().forgot.is_some());
        assert_eq!(*ledger.forgotten().borrow(), 1);
        let unknown = claim(&ledger, refund("a", "1", 0)).await;
        assert_eq!(suspicion(&unknown), Some(SuspicionReason::LedgerForgot));
    }

    async fn a_commit_that_is_missing_is_noticed_by_the_next_claim(rig) {
        let ledger = rig.open().await;
        claim(&ledger, refund("a", "1", 0)).await;
        claim(&ledger, refund("b", "2", 0)).await;
        lose_a_commit(&rig).await;
        let unknown = claim(&ledger, refund("c", "3", 0)).await;
        assert_eq!(suspicion(&unknown), Some(SuspicionReason::LedgerForgot));
        assert!(ledger.meta().await.unwrap().forgot.is_some());
        claim(&ledger, refund("d", "4", 0)).await;
        assert_eq!(*ledger.forgotten().borrow(), 1, "it is said once");
    }

    async fn a_claimed_command_that_is_gone_is_written_back(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        ledger.note(&first, ledger.until(5), true).await.unwrap();
        let mut held = claimed(claim(&ledger, refund("a", "77", 5)).await);
        alter_store(&rig, "DELETE FROM commands").await;
        held.history.inquired(now(6), None, Reading::RefundPending);
        assert_eq!(ledger.begin(&held, ledger.until(100)).await.unwrap(), LeaseStatus::Held);
        assert_eq!(*ledger.forgotten().borrow(), 1);
        assert_eq!(word(&claim(&ledger, refund("b", "77", 7)).await), "busy", "its tid too");
        alter_store(&rig, "DELETE FROM commands").await;
        assert_eq!(ledger.finish(held, &succeeded("a", "5"), false).await.unwrap(), LeaseStatus::Held);
        assert_eq!(word(&claim(&ledger, refund("a", "77", 8)).await), "finished");
        assert_eq!(word(&claim(&ledger, refund("b", "77", 8)).await), "refunded");
    }

    async fn what_is_gone_does_not_go_on_beside_another_refund_of_its_tid(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        ledger.note(&first, ledger.until(5), true).await.unwrap();
        let held = claimed(claim(&ledger, refund("a", "77", 5)).await);
        alter_store(&rig, "DELETE FROM commands").await;
        let other = claimed(claim(&ledger, refund("b", "77", 6)).await);
        assert_eq!(ledger.begin(&held, ledger.until(100)).await.unwrap(), LeaseStatus::Lost);
        assert_eq!(ledger.note(&held, ledger.until(100), true).await.unwrap(), LeaseStatus::Lost);
        ledger.finish(other, &succeeded("b", "5"), false).await.unwrap();
        assert_eq!(ledger.begin(&held, ledger.until(100)).await.unwrap(), LeaseStatus::Lost, "it is refunded");
        assert_eq!(ledger.finish(held, &unresolved("a"), false).await.unwrap(), LeaseStatus::Held);
        assert_eq!(word(&claim(&ledger, refund("a", "77", 8)).await), "finished");
    }

    async fn a_row_with_a_word_that_is_not_known_names_itself(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        ledger.finish(first, &succeeded("a", "5"), false).await.unwrap();
        for (column, known, unknown) in
            [("kind", "refund", "rebate"), ("outcome", "succeeded", "perhaps")]
        {
            alter_store(&rig, &format!("UPDATE commands SET {column} = '{unknown}'")).await;
            let problem = ledger.claim(refund("a", "77", 1), 2).await.unwrap_err().to_string();
            let named = format!("the row of a has the {column} \"{unknown}\"");
            assert!(problem.contains(&named), "{problem}");
            alter_store(&rig, &format!("UPDATE commands SET {column} = '{known}'")).await;
        }
        assert_eq!(word(&claim(&ledger, refund("a", "77", 2)).await), "finished");
    }

    async fn a_row_of_a_kind_that_is_not_known_is_left_to_a_version_that_knows_it(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        ledger.finish(first, &succeeded("a", "5"), false).await.unwrap();
        alter_store(&rig, "UPDATE commands SET finished = NULL, outcome = NULL").await;
        assert_eq!(ledger.stranded(9).await.unwrap().open.len(), 1);
        alter_store(&rig, "UPDATE commands SET kind = 'rebate'").await;
        assert_eq!(ledger.stranded(9).await.unwrap().open, []);
    }

    async fn the_store_itself_refuses_two_unfinished_refunds_of_a_tid(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        ledger.note(&first, ledger.until(5), true).await.unwrap();
        drop(ledger);
        let insert = "INSERT INTO commands (id, kind, tid, digest, first_received, history, parked,
            interruptions, unsettled) SELECT 'b', kind, tid, digest, 0, history, 0, 0, unsettled
            FROM commands WHERE id = 'a'";
        let problem = match &rig {
            Rig::Sqlite(_) => {
                let file = rusqlite::Connection::open(rig.path()).unwrap();
                file.execute_batch(insert).unwrap_err().to_string()
            }
            Rig::Postgres(url) => {
                let connected = tokio_postgres::connect(url.expose_secret(), tokio_postgres::NoTls);
                let (client, connection) = connected.await.unwrap();
                tokio::spawn(connection);
                let error = client.batch_execute(insert).await.unwrap_err();
                error.as_db_error().unwrap().message().to_owned()
            }
        };
        assert!(problem.to_lowercase().contains("unique"), "{problem}");
    }

    async fn a_refund_follows_another_of_its_tid_within_one_commit(rig) {
        let ledger = rig.open().await;
        for round in 0..30 {
            let tid = format!("{round}");
            let first = claimed(claim(&ledger, refund(&format!("z-{round}"), &tid, 0)).await);
            let problem = Problem::new(Code::RateLimited, "given up");
            let end = event("z", &Outcome::Failed(problem));
            // The first keeps the store busy while the others come.
            let (_, ended, next) = tokio::join!(
                ledger.claim(request(&format!("busy-{round}"), 0), 1),
                ledger.finish(first, &end, false),
                ledger.claim(refund(&format!("a-{round}"), &tid, 1), 2),
            );
            assert_eq!(ended.unwrap(), LeaseStatus::Held);
            assert_eq!(word(&next.unwrap()), "fresh");
        }
    }

    async fn a_ledger_of_schema_3_gets_an_id_and_keeps_its_commands(rig) {
        let insert = "INSERT INTO commands (id, kind, tid, digest, first_received, history, parked,
            interruptions, unsettled) VALUES ('old', 'refund', '7', 'd', 0,
            '{\"first_received\":0,\"entries\":[]}', 0, 0, FALSE)";
        match &rig {
            Rig::Sqlite(_) => {
                let file = rusqlite::Connection::open(rig.path()).unwrap();
                for migration in [
                    include_str!("../../migrations/sqlite/0001_commands.sql"),
                    include_str!("../../migrations/sqlite/0002_begun.sql"),
                    include_str!("../../migrations/sqlite/0003_moments.sql"),
                    "INSERT INTO meta (digest_key) VALUES (x'0102'); PRAGMA user_version = 3",
                    insert,
                ] {
                    file.execute_batch(migration).unwrap();
                }
            }
            Rig::Postgres(url) => {
                for migration in [
                    include_str!("../../migrations/postgres/0001_commands.sql"),
                    include_str!("../../migrations/postgres/0002_hot.sql"),
                    include_str!("../../migrations/postgres/0003_moments.sql"),
                    "CREATE TABLE schema_version (applied BIGINT NOT NULL);
                     INSERT INTO schema_version VALUES (3);
                     INSERT INTO meta (digest_key) VALUES ('\\x0102')",
                    insert,
                ] {
                    execute(url.expose_secret(), migration).await;
                }
            }
        }
        let old = Ledger::look(&rig.settings()).await.unwrap().meta;
        assert_eq!(old, Meta { schema: 3, ..Meta::default() });
        let ledger = rig.open().await;
        assert_eq!((ledger.identity().id.len(), ledger.identity().is_new), (32, false));
        assert_eq!(word(&claim(&ledger, refund("old", "7", 1)).await), "due");
        assert_eq!(word(&claim(&ledger, refund("new", "7", 1)).await), "busy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_what_one_worker_has_noticed_makes_the_other_cautious() {
    let Some((rig, one, two)) = two_workers("two_workers_forgot").await else { return };
    claim(&one, request("a", 0)).await;
    claim(&two, request("b", 0)).await;
    execute_on(&rig, "UPDATE commits SET count = 0 WHERE worker = 1").await;
    assert_eq!(suspicion(&claim(&two, refund("c", "1", 0)).await), None, "it lost nothing");
    assert_eq!(
        suspicion(&claim(&one, refund("d", "2", 0)).await),
        Some(SuspicionReason::LedgerForgot)
    );
    assert_eq!(
        suspicion(&claim(&two, refund("e", "3", 0)).await),
        Some(SuspicionReason::LedgerForgot)
    );
    assert_eq!((*one.forgotten().borrow(), *two.forgotten().borrow()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_what_another_worker_has_lost_is_noticed_by_who_only_looks() {
    let Some((rig, one, two)) = two_workers("two_workers_look").await else { return };
    claim(&one, request("a", 0)).await;
    claim(&one, request("b", 0)).await;
    two.commits().await.unwrap();
    execute_on(&rig, "UPDATE commits SET count = count - 1 WHERE worker = 1").await;
    two.commits().await.unwrap();
    assert_eq!(*two.forgotten().borrow(), 1, "there were more");
    assert_eq!(
        suspicion(&claim(&two, refund("c", "1", 0)).await),
        Some(SuspicionReason::LedgerForgot)
    );
    one.commits().await.unwrap();
    assert_eq!(*one.forgotten().borrow(), 1, "they were its own");
    one.commits().await.unwrap();
    two.commits().await.unwrap();
    assert_eq!((*one.forgotten().borrow(), *two.forgotten().borrow()), (1, 1), "it is said once");
    execute_on(&rig, "UPDATE commits SET count = count - 1 WHERE worker = 1").await;
    claim(&one, request("d", 0)).await;
    one.commits().await.unwrap();
    assert_eq!(*one.forgotten().borrow(), 2, "also where a claim has noticed it before");
}

async fn execute_on(rig: &Rig, sql: &str) {
    let Rig::Postgres(url) = rig else { panic!("for PostgreSQL") };
    execute(url.expose_secret(), sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_it_is_said_where_it_is_and_what_a_commit_waits_for() {
    let Some(rig) = Rig::postgres("place_and_promise").await else { return };
    let ledger = rig.open().await;
    let Identity { place, promise, .. } = ledger.identity();
    assert!(place.starts_with("PostgreSQL 127.0.0.1:") && place.ends_with("/postgres"), "{place}");
    assert!(promise.contains("commits wait for no standby: after a failover"), "{promise}");
}

#[tokio::test]
async fn on_sqlite_a_file_that_is_taken_away_fails_every_request_until_it_is_back() {
    let rig = Rig::sqlite();
    let ledger = rig.open().await;
    let first = claimed(claim(&ledger, refund("a", "1", 0)).await);
    let away = rig.path().with_extension("away");
    std::fs::rename(rig.path(), &away).unwrap();
    let error = ledger.claim(refund("b", "2", 0), 7).await.unwrap_err().to_string();
    let path = rig.path().display().to_string();
    assert!(error.contains(&format!("{path} was deleted while this worker uses it")), "{error}");
    assert!(
        matches!(ledger.commits().await, Err(Error::Store(_))),
        "also where nothing is claimed"
    );
    assert!(ledger.finish(first.clone(), &succeeded("a", "1"), false).await.is_err());
    std::fs::copy(&away, rig.path()).unwrap();
    let error = ledger.probe().await.unwrap_err().to_string();
    assert!(error.contains("was replaced by another file"), "{error}");
    std::fs::rename(&away, rig.path()).unwrap();
    assert_eq!(ledger.finish(first, &succeeded("a", "1"), false).await.unwrap(), LeaseStatus::Held);
    assert_eq!(*ledger.forgotten().borrow(), 0, "nothing was lost");
}

#[tokio::test]
async fn on_sqlite_the_same_file_by_another_name_is_the_same_file() {
    let rig = Rig::sqlite();
    let _ledger = rig.open().await;
    let beside = |name: &str| rig.path().with_file_name(name);
    std::os::unix::fs::symlink(rig.path(), beside("symlink.db")).unwrap();
    std::fs::create_dir(beside("elsewhere")).unwrap();
    let hard = beside("elsewhere").join("hard.db");
    std::fs::hard_link(rig.path(), &hard).unwrap();
    let mut names = vec![beside("symlink.db"), beside("elsewhere").join("../ledger.db")];
    if cfg!(target_os = "linux") {
        names.push(hard);
    }
    for path in names {
        let error = refused(&Settings::Sqlite { path: path.clone() }).await;
        assert!(error.contains("is in use by another worker"), "{}: {error}", path.display());
        assert!(
            !error.contains("each its own")
                && error.contains("need one PostgreSQL ledger (postgres://)"),
            "it is no advice: {error}"
        );
    }
}

#[tokio::test]
async fn on_sqlite_an_older_copy_that_was_restored_in_place_is_noticed() {
    let rig = Rig::sqlite();
    let ledger = rig.open().await;
    let ended = claimed(claim(&ledger, refund("a", "1", 0)).await);
    let copy = rig.path().with_extension("copy");
    alter(&rig, &format!("VACUUM INTO '{}'", copy.display()));
    let lost = claimed(claim(&ledger, refund("b", "2", 0)).await);
    ledger.finish(ended, &succeeded("a", "1"), false).await.unwrap();
    let mut file = rusqlite::Connection::open(rig.path()).unwrap();
    restore(&mut file, &copy);
    let unknown = claim(&ledger, refund("c", "3", 0)).await;
    assert_eq!(suspicion(&unknown), Some(SuspicionReason::LedgerForgot));
    assert_eq!(ledger.finish(lost, &succeeded("b", "1"), false).await.unwrap(), LeaseStatus::Held);
    assert_eq!(word(&claim(&ledger, refund("b", "2", 1)).await), "finished");
    assert_eq!(
        word(&claim(&ledger, refund("a", "1", 1)).await),
        "busy",
        "the copy knows its begin"
    );
}

/// Puts all that an older copy holds in place of what a file holds.
fn restore(file: &mut rusqlite::Connection, copy: &Path) {
    file.execute_batch(&format!("ATTACH '{}' AS copy", copy.display())).unwrap();
    let transaction = file.transaction().unwrap();
    for table in ["commands", "meta"] {
        let sql = format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM copy.{table}");
        transaction.execute_batch(&sql).unwrap();
    }
    transaction.commit().unwrap();
}
