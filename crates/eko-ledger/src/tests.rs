//! One suite for both stores. PostgreSQL is the server of `EKO_TEST_POSTGRES_URL`, each test
//! in a schema of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

use super::*;
use eko_core::clock::{Now, Stamp};
use eko_core::command::Kind;
use eko_core::event::About;
use eko_core::history::{Age, Entry, Suspicion, SuspicionReason};
use eko_core::outcome::{Answer, Code, ConfirmedBy, Outcome, Problem, Receipt};
use eko_core::trace::Trace;
use eko_core::verdict::{Cause, Reading, Verdict};

const KEY: [u8; 32] = [7; 32];
const LEASE: Duration = Duration::from_secs(55);
const RETENTION: Duration = Duration::from_secs(90 * 86_400);

const fn opening(epoch: u32, new_key: [u8; 32]) -> Opening {
    Opening { epoch, new_key, retention: RETENTION }
}

/// Where one test keeps its ledger.
enum Rig {
    Sqlite(tempfile::TempDir),
    Postgres(SecretString),
}

impl Rig {
    fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// `None` where there is no server to test with.
    #[expect(clippy::disallowed_methods, reason = "only the environment knows the server")]
    async fn postgres(test: &str) -> Option<Self> {
        let Ok(server) = std::env::var("EKO_TEST_POSTGRES_URL") else {
            eprintln!("SKIPPED on PostgreSQL, EKO_TEST_POSTGRES_URL is not set: {test}");
            return None;
        };
        let schema = format!("t_{:032x}", fnv(test));
        let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
        execute(&server, &sql).await;
        let mark = if server.contains('?') { '&' } else { '?' };
        let url = format!("{server}{mark}options=-csearch_path%3D{schema}");
        Some(Self::Postgres(url.into()))
    }

    fn settings(&self) -> Settings {
        match self {
            Self::Sqlite(_) => Settings::Sqlite { path: self.path() },
            Self::Postgres(url) => Settings::read(url.expose_secret()).unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite(directory) => directory.path().join("ledger.db"),
            Self::Postgres(_) => PathBuf::new(),
        }
    }

    async fn open(&self) -> Ledger {
        Ledger::open(&self.settings(), &opening(1, KEY)).await.unwrap()
    }

    /// Closes a ledger and opens it again, as another process would.
    async fn reopen(&self, ledger: Ledger, epoch: u32) -> Ledger {
        drop(ledger);
        if let Self::Sqlite(_) = self {
            wait_until_free(&self.path()).await;
        }
        Ledger::open(&self.settings(), &opening(epoch, KEY)).await.unwrap()
    }
}

/// Takes the file's lock as the next process would: it is free once the store's thread ended.
async fn wait_until_free(path: &Path) {
    let name = path.with_extension("db.lock");
    let wait = move || std::fs::File::open(name).unwrap().lock().unwrap();
    tokio::task::spawn_blocking(wait).await.unwrap();
}

/// Another program's hand in the store.
async fn alter_store(rig: &Rig, sql: &str) {
    match rig {
        Rig::Sqlite(_) => alter(rig, sql),
        Rig::Postgres(url) => execute(url.expose_secret(), sql).await,
    }
}

async fn execute(url: &str, sql: &str) {
    let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    let connection = tokio::spawn(connection);
    client.batch_execute(sql).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
}

fn fnv(name: &str) -> u128 {
    name.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

/// Seconds into the test.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + seconds).unwrap()
}

/// What the clocks of the first process say then.
fn now(seconds: i64) -> Now {
    let monotonic = Duration::from_secs(seconds.unsigned_abs());
    Now { wall: at(seconds), process: 1, monotonic }
}

/// A timestamp that is drawn then.
fn stamp(seconds: i64) -> Stamp {
    Stamp { at: at(seconds).as_millisecond(), lead: 0 }
}

impl Ledger {
    fn set_time(&self, time: Timestamp) {
        self.time.milliseconds.store(time.as_millisecond(), Ordering::Relaxed);
    }

    /// How long until then, by the store's time.
    fn until(&self, seconds: i64) -> Duration {
        let now = self.time.milliseconds.load(Ordering::Relaxed);
        Duration::from_millis((at(seconds).as_millisecond() - now).unsigned_abs())
    }
}

fn request(id: &str, seconds: i64) -> ClaimRequest {
    ClaimRequest {
        digest: Some("d".to_owned()),
        stamp: Some(stamp(seconds)),
        ..ClaimRequest::known(id, Some(Kind::TransferOtp), now(seconds), LEASE)
    }
}

fn suspicion(seconds: i64, why: SuspicionReason) -> Entry {
    let (age, before) = (Age::default(), Duration::ZERO);
    Entry::Suspicion(Suspicion { at: at(seconds), age, before, why })
}

fn refund(id: &str, tid: &str, seconds: i64) -> ClaimRequest {
    ClaimRequest { kind: Some(Kind::Refund), tid: Some(tid.to_owned()), ..request(id, seconds) }
}

fn succeeded(id: &str, refund_tid: &str) -> Event {
    let mut receipt = Receipt::default();
    receipt.put("refund_tid", refund_tid);
    let answer = Some(Answer { http_status: 200, status: Some(0), ..Answer::default() });
    let confirmed_by = ConfirmedBy::Response;
    event(id, &Outcome::Succeeded { confirmed_by, receipt, answer })
}

fn unresolved(id: &str) -> Event {
    event(id, &Outcome::Unresolved(Problem::new(Code::Timeout, "no answer")))
}

fn event(id: &str, outcome: &Outcome) -> Event {
    let about = About {
        command_id: id,
        event_id: id,
        kind: Some(Kind::Refund),
        subject: Some("13192443"),
        correlation_id: Some("order \"7\" ₹"),
        attempts: 1,
        trace: &Trace::new(0xabc),
        span: 5,
    };
    Event::new(&about, outcome, at(9))
}

/// What a ledger says, without what goes with it.
fn word(claim: &Claim) -> &'static str {
    match claim {
        Claim::Fresh(_) => "fresh",
        Claim::Due(_) => "due",
        Claim::Interrupted(_) => "interrupted",
        Claim::Refunded(..) => "refunded",
        Claim::Busy { .. } => "busy",
        Claim::Early { .. } => "early",
        Claim::Stale => "stale",
        Claim::Finished { .. } => "finished",
        Claim::Unknown => "unknown",
        Claim::Conflict => "conflict",
    }
}

fn claimed(claim: Claim) -> ClaimedCommand {
    match claim {
        Claim::Fresh(claimed)
        | Claim::Due(claimed)
        | Claim::Interrupted(claimed)
        | Claim::Refunded(claimed, _) => claimed,
        other => panic!("not claimed: {}", word(&other)),
    }
}

/// Claims with a token that no other claim of the test has.
async fn claim(ledger: &Ledger, request: ClaimRequest) -> Claim {
    ledger.set_time(request.now.wall);
    ledger.claim(request, fastrand::u32(..)).await.unwrap()
}

/// Each test for each store.
macro_rules! on_both_stores {
    ($(async fn $name:ident($rig:ident) $body:block)*) => {
        mod on_sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(Rig::sqlite()).await;
            })*
        }
        mod on_postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(rig) = Rig::postgres(stringify!($name)).await {
                    super::$name(rig).await;
                }
            })*
        }
        $(async fn $name($rig: Rig) $body)*
    };
}

mod memory;
mod operators;
mod places;
mod slots;

on_both_stores! {
    async fn a_new_command_is_fresh_and_has_begun(rig) {
        let ledger = rig.open().await;
        let claimed = claimed(claim(&ledger, request("a", 0)).await);
        assert_eq!(claimed.history.first_received, at(0));
        assert!(claimed.history.in_flight());
    }

    async fn a_new_command_that_may_not_begin_has_only_been_claimed(rig) {
        let ledger = rig.open().await;
        let fresh = claim(&ledger, ClaimRequest { stamp: None, ..request("a", 0) }).await;
        assert_eq!(word(&fresh), "fresh");
        assert_eq!(claimed(fresh).history.entries, []);
    }

    async fn a_parked_command_is_early_then_due_with_all_that_is_known(rig) {
        let ledger = rig.open().await;
        let mut first = claimed(claim(&ledger, request("a", 0)).await);
        first.history.end(now(1), Verdict::not_now(Cause::RateLimited));
        assert_eq!(ledger.note(&first, ledger.until(20), false).await.unwrap(), LeaseStatus::Held);
        match claim(&ledger, request("a", 19)).await {
            Claim::Early { wait } => assert_eq!(wait, Duration::from_secs(1)),
            other => panic!("{}", word(&other)),
        }
        let back = claim(&ledger, request("a", 20)).await;
        assert_eq!(word(&back), "due");
        // What the process has measured meanwhile.
        first.history.measure(now(20));
        assert_eq!(claimed(back).history, first.history);
    }

    async fn what_the_broker_and_this_process_have_both_measured_counts_once(rig) {
        let ledger = rig.open().await;
        let mut first = claimed(claim(&ledger, request("a", 0)).await);
        first.history.end(now(1), Verdict::unclear(Cause::Timeout));
        ledger.note(&first, ledger.until(20), false).await.unwrap();
        let waited = Some(Waited { first_received: at(0), age: Duration::from_secs(20) });
        let back = claimed(claim(&ledger, ClaimRequest { waited, parked: 1, ..request("a", 21) }).await);
        assert_eq!(back.history.age(now(21)).proven, Duration::from_secs(21));
    }

    async fn a_claim_keeps_others_away_until_its_lease_is_over(rig) {
        let ledger = rig.open().await;
        claim(&ledger, request("a", 0)).await;
        match claim(&ledger, request("a", 54)).await {
            Claim::Busy { wait } => assert_eq!(wait, Some(Duration::from_secs(1))),
            other => panic!("{}", word(&other)),
        }
        let taken = claim(&ledger, request("a", 55)).await;
        assert_eq!(word(&taken), "interrupted");
        let claimed = claimed(taken);
        assert!(claimed.history.in_flight());
        assert_eq!(claimed.interruptions, 1);
    }

    async fn each_attempt_renews_the_lease(rig) {
        let ledger = rig.open().await;
        let claimed = claimed(claim(&ledger, request("a", 0)).await);
        assert_eq!(ledger.begin(&claimed, ledger.until(100)).await.unwrap(), LeaseStatus::Held);
        assert_eq!(word(&claim(&ledger, request("a", 99)).await), "busy");
        assert_eq!(word(&claim(&ledger, request("a", 100)).await), "interrupted");
    }

    async fn whoever_lost_the_claim_can_write_nothing(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, request("a", 0)).await);
        let second = claimed(claim(&ledger, request("a", 60)).await);
        assert_eq!(ledger.begin(&first, ledger.until(200)).await.unwrap(), LeaseStatus::Lost);
        assert_eq!(ledger.note(&first, ledger.until(70), true).await.unwrap(), LeaseStatus::Lost);
        assert_eq!(ledger.finish(first.clone(), &unresolved("a"), false).await.unwrap(), LeaseStatus::Lost);
        let event = succeeded("a", "1");
        assert_eq!(ledger.finish(second.clone(), &event, false).await.unwrap(), LeaseStatus::Held);
        assert_eq!(ledger.finish(second.clone(), &unresolved("a"), false).await.unwrap(), LeaseStatus::Lost);
        match claim(&ledger, request("a", 80)).await {
            Claim::Finished { event: told, is_untold: false } => assert_eq!(*told, event),
            other => panic!("{}", word(&other)),
        }
    }

    async fn parking_ends_the_count_of_interruptions(rig) {
        let ledger = rig.open().await;
        claim(&ledger, request("a", 0)).await;
        let second = claimed(claim(&ledger, request("a", 60)).await);
        let third = claimed(claim(&ledger, request("a", 120)).await);
        assert_eq!((second.interruptions, third.interruptions), (1, 2));
        ledger.note(&third, ledger.until(130), false).await.unwrap();
        assert_eq!(claimed(claim(&ledger, request("a", 130)).await).interruptions, 0);
    }

    async fn what_has_ended_and_is_not_known_does_not_begin(rig) {
        let ledger = rig.open().await;
        let copy = ClaimRequest { has_ended: true, ..request("a", 0) };
        assert_eq!(word(&claim(&ledger, copy.clone()).await), "unknown");
        let first = claimed(claim(&ledger, request("a", 1)).await);
        ledger.finish(first, &succeeded("a", "1"), false).await.unwrap();
        assert_eq!(word(&claim(&ledger, copy).await), "finished");
    }

    async fn who_asks_only_how_a_command_ended_claims_nothing(rig) {
        let ledger = rig.open().await;
        let look = |seconds| {
            let (known, only_ended) = (now(seconds), true);
            ClaimRequest { only_ended, ..ClaimRequest::known("a", Some(Kind::TransferOtp), known, LEASE) }
        };
        assert_eq!(word(&claim(&ledger, look(0)).await), "unknown");
        let first = claimed(claim(&ledger, request("a", 1)).await);
        // Its lease is over by then.
        assert_eq!(word(&claim(&ledger, look(60)).await), "unknown");
        assert_eq!(ledger.finish(first, &succeeded("a", "1"), false).await.unwrap(), LeaseStatus::Held);
        assert_eq!(word(&claim(&ledger, look(61)).await), "finished");
    }

    async fn a_copy_that_a_later_one_replaced_is_stale_unless_it_wants_an_answer(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, request("a", 0)).await);
        ledger.note(&first, ledger.until(10), false).await.unwrap();
        ledger.parked("a", 1).await.unwrap();
        assert_eq!(word(&claim(&ledger, request("a", 9)).await), "stale");
        let asks_back = ClaimRequest { has_reply_to: true, ..request("a", 9) };
        assert_eq!(word(&claim(&ledger, asks_back).await), "early");
        let back = claim(&ledger, ClaimRequest { parked: 1, ..request("a", 10) }).await;
        assert_eq!(word(&back), "due");
        assert_eq!(claimed(back).parked, 1);
    }

    async fn a_copy_does_the_work_of_a_later_one_that_did_not_come_back(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, request("a", 0)).await);
        ledger.note(&first, ledger.until(10), false).await.unwrap();
        ledger.parked("a", 3).await.unwrap();
        assert_eq!(word(&claim(&ledger, ClaimRequest { parked: 1, ..request("a", 9) }).await), "stale");
        let taken = claim(&ledger, ClaimRequest { parked: 1, ..request("a", 10) }).await;
        assert_eq!(word(&taken), "due");
        assert_eq!(claimed(taken).parked, 3, "what it parks replaces all others");
        assert_eq!(word(&claim(&ledger, ClaimRequest { parked: 1, ..request("a", 11) }).await), "stale");
        assert_eq!(word(&claim(&ledger, ClaimRequest { parked: 3, ..request("a", 11) }).await), "busy");
    }

    async fn a_finished_command_is_told_byte_for_byte_also_after_reopening(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, request("a", 0)).await);
        let event = succeeded("a", "2147591637");
        ledger.finish(first.clone(), &event, false).await.unwrap();
        let ledger = rig.reopen(ledger, 2).await;
        match claim(&ledger, request("a", 10_000)).await {
            Claim::Finished { event: told, is_untold: false } => assert_eq!(*told, event),
            other => panic!("{}", word(&other)),
        }
    }

    async fn the_digest_key_is_kept_and_the_first_one_wins(rig) {
        let ledger = rig.open().await;
        let before = ledger.digest(b"data");
        drop(ledger);
        if let Rig::Sqlite(_) = rig {
            wait_until_free(&rig.path()).await;
        }
        let ledger = Ledger::open(&rig.settings(), &opening(2, [9; 32])).await.unwrap();
        assert_eq!(ledger.digest(b"data"), before);
        assert_ne!(ledger.digest(b"other"), before);
    }

    async fn the_same_id_with_other_data_or_another_kind_is_a_conflict(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, request("a", 0)).await);
        let other_data = ClaimRequest { digest: Some("e".to_owned()), ..request("a", 1) };
        let other_kind = ClaimRequest { kind: Some(Kind::RefundOtp), ..request("a", 1) };
        for request in [&other_data, &other_kind] {
            assert_eq!(word(&claim(&ledger, request.clone()).await), "conflict");
        }
        ledger.finish(first.clone(), &succeeded("a", "1"), false).await.unwrap();
        for request in [other_data, other_kind] {
            assert_eq!(word(&claim(&ledger, request).await), "conflict");
        }
    }

    async fn a_refund_waits_for_another_unfinished_one_of_its_tid(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        for seconds in [1, 1_000_000] {
            match claim(&ledger, refund("b", "77", seconds)).await {
                Claim::Busy { wait } => assert_eq!(wait, None),
                other => panic!("{}", word(&other)),
            }
        }
        assert_eq!(word(&claim(&ledger, refund("c", "78", 1)).await), "fresh");
        let its_otp = ClaimRequest { kind: Some(Kind::RefundOtp), ..refund("d", "77", 1) };
        assert_eq!(word(&claim(&ledger, its_otp).await), "fresh");
        ledger.note(&first, ledger.until(5), true).await.unwrap();
        assert_eq!(word(&claim(&ledger, refund("b", "77", 6)).await), "busy");
    }

    async fn a_tid_that_was_refunded_is_answered_with_what_it_gave(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        ledger.finish(first.clone(), &succeeded("a", "2147591637"), false).await.unwrap();
        match claim(&ledger, refund("b", "77", 1)).await {
            Claim::Refunded(claimed, receipt) => {
                assert_eq!(receipt.get("refund_tid"), Some("2147591637"));
                assert_eq!(claimed.history.attempts(), 0);
            }
            other => panic!("{}", word(&other)),
        }
    }

    async fn a_tid_that_was_refunded_is_answered_so_by_whoever_comes_after_a_crash(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        ledger.finish(first.clone(), &succeeded("a", "1"), false).await.unwrap();
        assert_eq!(word(&claim(&ledger, refund("b", "77", 1)).await), "refunded");
        let ledger = rig.reopen(ledger, 2).await;
        // By then the dead worker's lease is over.
        assert_eq!(word(&claim(&ledger, refund("b", "77", 100)).await), "refunded");
    }

    async fn a_refund_that_ended_in_doubt_makes_the_next_one_suspect(rig) {
        let ledger = rig.open().await;
        let mut first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        first.history.end(now(1), Verdict::unclear(Cause::Timeout));
        ledger.finish(first.clone(), &unresolved("a"), false).await.unwrap();
        let next = claimed(claim(&ledger, refund("b", "77", 20)).await);
        assert_eq!(next.history.entries, [suspicion(20, SuspicionReason::TidDoubted)]);
    }

    async fn a_refund_that_was_refused_leaves_nothing_behind(rig) {
        let ledger = rig.open().await;
        let mut first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        first.history.end(now(1), Verdict::not_now(Cause::RateLimited));
        let problem = Problem::new(Code::RateLimited, "given up");
        ledger.finish(first.clone(), &event("a", &Outcome::Failed(problem)), false).await.unwrap();
        assert!(claimed(claim(&ledger, refund("b", "77", 20)).await).history.in_flight());
    }

    async fn a_redelivered_refund_that_is_unknown_is_suspect(rig) {
        let ledger = rig.open().await;
        let request = ClaimRequest { is_suspect: true, ..refund("a", "77", 0) };
        let claimed = claimed(claim(&ledger, request).await);
        assert_eq!(claimed.history.entries, [suspicion(0, SuspicionReason::Redelivered)]);
    }

    async fn an_expired_refund_that_may_have_been_attempted_waits_for_its_tid(rig) {
        let ledger = rig.open().await;
        let mut first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        let expired = ClaimRequest { has_expired: true, stamp: None, ..refund("b", "77", 1) };
        let suspect = ClaimRequest { is_suspect: true, ..expired.clone() };
        assert_eq!(word(&claim(&ledger, suspect.clone()).await), "busy");
        assert_eq!(claimed(claim(&ledger, expired.clone()).await).history.entries, []);
        first.history.end(now(1), Verdict::unclear(Cause::Timeout));
        ledger.finish(first.clone(), &unresolved("a"), false).await.unwrap();
        // What the other one left in doubt is no doubt about this one, which makes no attempt.
        let other = ClaimRequest { id: "c".to_owned(), ..expired };
        let other = claimed(claim(&ledger, other).await);
        assert_eq!(other.history.entries, []);
        ledger.finish(other, &unresolved("c"), false).await.unwrap();
        let expected = [suspicion(1, SuspicionReason::Redelivered)];
        assert_eq!(claimed(claim(&ledger, suspect).await).history.entries, expected);
    }

    async fn refunds_of_a_refunded_tid_that_have_expired_end_beside_each_other(rig) {
        let ledger = rig.open().await;
        let first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        ledger.finish(first, &succeeded("a", "5"), false).await.unwrap();
        let expired = |id| ClaimRequest { has_expired: true, stamp: None, ..refund(id, "77", 1) };
        let (second, third) = (claim(&ledger, expired("b")).await, claim(&ledger, expired("c")).await);
        let (Claim::Refunded(second, _), Claim::Refunded(third, _)) = (second, third) else {
            panic!("the tid is refunded");
        };
        // The worker dies, and another one begins with what is on the disk.
        let ledger = rig.reopen(ledger, 2).await;
        ledger.finish(third, &succeeded("c", "5"), false).await.unwrap();
        assert_eq!(word(&claim(&ledger, expired("c")).await), "finished");
        drop(second);
        assert_eq!(word(&claim(&ledger, expired("d")).await), "refunded");
    }

    async fn the_census_counts_what_waits(rig) {
        let ledger = rig.open().await;
        assert_eq!(ledger.backlog_counts().await.unwrap(), BacklogCounts::default());
        let mut doubted = claimed(claim(&ledger, refund("a", "77", 3)).await);
        doubted.history.end(now(4), Verdict::unclear(Cause::Timeout));
        ledger.note(&doubted, ledger.until(20), true).await.unwrap();
        let mut waiting = claimed(claim(&ledger, request("b", 5)).await);
        waiting.history.end(now(6), Verdict::not_now(Cause::RateLimited));
        ledger.note(&waiting, ledger.until(20), false).await.unwrap();
        claim(&ledger, request("c", 7)).await;
        let backlog_counts = ledger.backlog_counts().await.unwrap();
        assert_eq!(backlog_counts.unsettled, BTreeMap::from([("refund".to_owned(), (1, at(3)))]));
        let parked = [("refund".to_owned(), 1), ("transfer_otp".to_owned(), 1)];
        assert_eq!(backlog_counts.parked, BTreeMap::from(parked));
        let mut back = claimed(claim(&ledger, refund("a", "77", 20)).await);
        back.history.inquired(now(21), None, Reading::Contradictory);
        ledger.finish(back.clone(), &unresolved("a"), false).await.unwrap();
        assert_eq!(ledger.backlog_counts().await.unwrap().unsettled, BTreeMap::new());
    }

    async fn only_what_finished_long_ago_is_forgotten_a_few_at_a_time(rig) {
        let ledger = rig.open().await;
        for id in ["a", "b", "c"] {
            let claimed = claimed(claim(&ledger, request(id, 0)).await);
            ledger.finish(claimed.clone(), &succeeded(id, "1"), false).await.unwrap();
        }
        claim(&ledger, request("unfinished", 0)).await;
        assert_eq!(ledger.prune(at(9), 10).await.unwrap(), 0);
        assert_eq!(ledger.prune(at(10), 2).await.unwrap(), 2);
        assert_eq!(ledger.prune(at(10), 2).await.unwrap(), 1);
        assert_eq!(word(&claim(&ledger, request("a", 20)).await), "fresh");
        assert_eq!(word(&claim(&ledger, request("unfinished", 20)).await), "busy");
    }

    async fn upkeep_takes_nothing_from_a_command_that_has_begun(rig) {
        let ledger = rig.open().await;
        let begun = claimed(claim(&ledger, refund("a", "7", 0)).await);
        for _ in 0..3 {
            ledger.prune(at(0), 10).await.unwrap();
        }
        assert_eq!(word(&claim(&ledger, refund("a", "7", 1)).await), "busy");
        assert_eq!(word(&claim(&ledger, refund("b", "7", 1)).await), "busy");
        ledger.finish(begun.clone(), &succeeded("a", "1"), false).await.unwrap();
        assert_eq!(word(&claim(&ledger, refund("a", "7", 2)).await), "finished");
        assert_eq!(word(&claim(&ledger, refund("b", "7", 2)).await), "refunded");
    }

    async fn who_does_not_hold_a_command_that_has_begun_takes_nothing_from_it(rig) {
        let ledger = rig.open().await;
        let begun = claimed(claim(&ledger, refund("a", "7", 0)).await);
        let other = ClaimedCommand { token: begun.token + 1, ..begun.clone() };
        assert_eq!(ledger.finish(other, &succeeded("a", "1"), false).await.unwrap(), LeaseStatus::Lost);
        assert_eq!(word(&claim(&ledger, refund("a", "7", 1)).await), "busy");
        assert_eq!(word(&claim(&ledger, refund("b", "7", 1)).await), "busy");
        let ledger = rig.reopen(ledger, 2).await;
        let again = claim(&ledger, refund("a", "7", 60)).await;
        assert_eq!(word(&again), "interrupted");
        let again = claimed(again);
        assert_eq!(again.history.attempts(), 1);
        assert_eq!(ledger.finish(again, &succeeded("a", "1"), false).await.unwrap(), LeaseStatus::Held);
    }

    async fn what_ended_before_a_crash_stays_and_what_had_begun_is_interrupted(rig) {
        let ledger = rig.open().await;
        let ids: Vec<String> = (0..40).map(|n| format!("c-{n}")).collect();
        let claims = join_all(ids.iter().map(|id| claim(&ledger, refund(id, id, 0)))).await;
        let cases: Vec<ClaimedCommand> = claims.into_iter().map(claimed).collect();
        for begun in cases.iter().step_by(2) {
            ledger.finish(begun.clone(), &succeeded(&begun.id, "1"), false).await.unwrap();
        }
        let ledger = rig.reopen(ledger, 2).await;
        for (n, id) in ids.iter().enumerate() {
            let expected = if n % 2 == 0 { "finished" } else { "interrupted" };
            // A minute later: the lease of a worker that shares the store is over.
            let answer = claim(&ledger, refund(id, id, 60)).await;
            assert_eq!(word(&answer), expected, "{id}");
        }
    }

    async fn a_thousand_claims_of_one_id_are_fresh_once(rig) {
        let ledger = rig.open().await;
        let claims = (0..1_000).map(|_| spawned(&ledger, request("a", 0)));
        assert_eq!(count(&join_all(claims).await), BTreeMap::from([("busy", 999), ("fresh", 1)]));
    }

    async fn two_hundred_refunds_of_one_tid_are_fresh_once(rig) {
        let ledger = rig.open().await;
        let claims = (0..200).map(|n| spawned(&ledger, refund(&format!("r{n}"), "77", 0)));
        assert_eq!(count(&join_all(claims).await), BTreeMap::from([("busy", 199), ("fresh", 1)]));
    }

    async fn a_history_is_shown_beside_a_running_worker_without_personal_data(rig) {
        let ledger = rig.open().await;
        assert_eq!(show(&rig.settings(), "a").await.unwrap(), None);
        let mut first = claimed(claim(&ledger, refund("a", "77", 0)).await);
        first.history.end(now(30), Verdict::unclear(Cause::Timeout));
        first.history.inquired(now(31), None, Reading::RefundPending);
        ledger.note(&first, ledger.until(36), true).await.unwrap();
        let mut again = claimed(claim(&ledger, refund("a", "77", 36)).await);
        again.history.inquired(now(66), None, Reading::RefundPending);
        again.history.begin(now(67), stamp(67));
        let message = Some("Rajesh, 9123456789, ref secret".to_owned());
        let answer = Answer {
            http_status: 200,
            status: Some(0),
            response_status_id: Some(0),
            response_type_id: Some(74),
            message,
        };
        let mut receipt = Receipt::default();
        receipt.put("otp_ref_id", "secret");
        again.history.end(now(68), Verdict::Done(receipt.clone(), answer.clone()));
        let confirmed_by = ConfirmedBy::Response;
        let outcome = Outcome::Succeeded { confirmed_by, receipt, answer: Some(answer) };
        ledger.finish(again.clone(), &event("a", &outcome), false).await.unwrap();
        claim(&ledger, ClaimRequest { kind: Some(Kind::RefundOtp), ..refund("b", "77", 80) }).await;
        let first = "a (refund, tid 77)
  2026-11-18T11:06:40.000Z  received
  2026-11-18T11:06:40.000Z  attempt 1 began
  2026-11-18T11:07:10.000Z  attempt 1: unclear (timeout)
  2026-11-18T11:07:11.000Z  inquiry: refund pending
  2026-11-18T11:07:46.000Z  inquiry: the same, 2 times in all
  2026-11-18T11:07:47.000Z  attempt 2 began
  2026-11-18T11:07:48.000Z  attempt 2: done http 200 status 0 response_status_id 0 response_type_id 74
  2026-11-18T11:06:49.000Z  finished: succeeded
  2026-11-18T11:06:49.000Z  event a.succeeded
";
        let second = "b (refund_otp, tid 77)
  2026-11-18T11:08:00.000Z  received
  2026-11-18T11:08:00.000Z  attempt 1 began
  2026-11-18T11:08:00.000Z  attempt 1 has no end on record
  2026-11-18T11:08:55.000Z  claimed by a worker until then
";
        assert_eq!(show(&rig.settings(), "a").await.unwrap().unwrap(), first);
        let both = format!("{first}\n{second}");
        assert_eq!(show(&rig.settings(), "77").await.unwrap().unwrap(), both);
        assert_eq!(show(&rig.settings(), "0077").await.unwrap().unwrap(), both);
        assert_eq!(show(&rig.settings(), "0").await.unwrap(), None);
    }

    async fn what_holds_no_ledger_cannot_be_shown(rig) {
        if let Rig::Sqlite(_) = &rig {
            let error = show(&rig.settings(), "a").await.unwrap_err();
            assert!(format!("{error:#}").contains("cannot open"), "{error:#}");
            assert!(!rig.path().exists());
            std::fs::write(rig.path(), "").unwrap();
        }
        let error = show(&rig.settings(), "a").await.unwrap_err();
        assert!(format!("{error:#}").contains("holds no ledger"), "{error:#}");
    }

    async fn a_probe_changes_nothing(rig) {
        let ledger = rig.open().await;
        let digest = ledger.digest(b"it");
        ledger.probe().await.unwrap();
        ledger.probe().await.unwrap();
        assert_eq!(rig.reopen(ledger, 2).await.digest(b"it"), digest);
    }

    async fn a_newer_ledger_is_refused(rig) {
        drop(rig.open().await);
        match &rig {
            Rig::Sqlite(_) => {
                wait_until_free(&rig.path()).await;
                let file = rusqlite::Connection::open(rig.path()).unwrap();
                file.pragma_update(None, "user_version", 99).unwrap();
            }
            Rig::Postgres(url) => {
                execute(url.expose_secret(), "UPDATE schema_version SET applied = 99").await;
            }
        }
        let error = refused(&rig.settings()).await;
        assert!(error.contains("newer version of eko-worker (schema 99)"), "{error}");
    }
}

/// A claim in a task of its own.
fn spawned(ledger: &Ledger, request: ClaimRequest) -> tokio::task::JoinHandle<Claim> {
    let ledger = ledger.clone();
    tokio::spawn(async move { claim(&ledger, request).await })
}

fn count(claims: &[Result<Claim, tokio::task::JoinError>]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for claim in claims {
        *counts.entry(word(claim.as_ref().unwrap())).or_default() += 1;
    }
    counts
}

async fn refused(settings: &Settings) -> String {
    match Ledger::open(settings, &opening(3, KEY)).await {
        Ok(_) => panic!("it was opened"),
        Err(error) => format!("{error:#}"),
    }
}

#[tokio::test]
async fn on_sqlite_a_claim_of_an_earlier_process_is_a_dead_ones() {
    let rig = Rig::sqlite();
    let ledger = rig.open().await;
    claim(&ledger, request("a", 0)).await;
    let ledger = rig.reopen(ledger, 2).await;
    assert_eq!(word(&claim(&ledger, request("a", 1)).await), "interrupted");
}

/// Another program's hand in the file.
fn alter(rig: &Rig, sql: &str) {
    rusqlite::Connection::open(rig.path()).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn on_sqlite_a_commit_that_failed_leaves_nothing_behind() {
    let rig = Rig::sqlite();
    let ledger = rig.open().await;
    let before = claimed(claim(&ledger, refund("before", "1", 0)).await);
    alter(&rig, "ALTER TABLE commands RENAME TO elsewhere");
    let failed = ledger.claim(refund("after", "2", 0), 7).await;
    assert!(failed.is_err(), "a claim that cannot be kept is no claim");
    let failed = ledger.finish(before.clone(), &succeeded("before", "1"), false).await;
    assert!(failed.is_err(), "what cannot be kept has not ended");
    alter(&rig, "ALTER TABLE elsewhere RENAME TO commands");
    assert_eq!(word(&claim(&ledger, refund("after", "2", 1)).await), "fresh");
    assert_eq!(word(&claim(&ledger, refund("before", "1", 1)).await), "busy");
    let held = ledger.finish(before.clone(), &succeeded("before", "1"), false).await.unwrap();
    assert_eq!(held, LeaseStatus::Held);
    assert_eq!(word(&claim(&ledger, refund("before", "1", 2)).await), "finished");
}

#[tokio::test]
async fn on_sqlite_what_has_begun_is_shown_beside_the_worker() {
    let rig = Rig::sqlite();
    let ledger = rig.open().await;
    claim(&ledger, refund("a", "13192443", 0)).await;
    let shown = show(&rig.settings(), "13192443").await.unwrap().unwrap();
    assert!(shown.starts_with("a (refund, tid 13192443)"), "{shown}");
    assert!(shown.contains("attempt 1 has no end on record"), "{shown}");
}

#[tokio::test]
async fn on_sqlite_what_was_kept_in_longer_words_is_read() {
    let rig = Rig::sqlite();
    alter(&rig, include_str!("../migrations/sqlite/0001_commands.sql"));
    alter(&rig, include_str!("../migrations/sqlite/0002_begun.sql"));
    alter(
        &rig,
        r#"PRAGMA user_version = 2;
        INSERT INTO begun VALUES (415, '[{"id":"load-2","kind":"refund","tid":"8",
            "digest":"d","history":{"first_received":"2026-11-22T03:14:45.170820255Z","entries":[
            {"attempt":{"began":"2026-11-22T03:14:45.170820255Z"}}]},"lease":{"token":1091,
            "until":"2026-11-22T03:15:40.170820255Z"},"due":null,"parked":0,"interruptions":0,
            "unsettled":false}]');
        INSERT INTO commands VALUES ('load-1', 'refund', '7', 'd', 1795317283893,
            '{"first_received":"2026-11-22T03:14:43.893952832Z","entries":[{"attempt":{"began":
            "2026-11-22T03:14:43.893952832Z","ended":{"at":"2026-11-22T03:14:43.895805665Z",
            "verdict":{"done":[{"http_status":200,"status":0,"message":"Refund done"}]}}}}]}',
            NULL, NULL, NULL, 0, 0, NULL, 0, 'succeeded', 1795317283895,
            CAST('{"id":"load-1.succeeded","type":"eko.refund.succeeded","causationid":"load-1",
            "time":"2026-11-22T03:14:43.895Z","traceparent":"","data":{"eko":{"http_status":200,
            "status":0,"message":"Refund done"}}}' AS BLOB));"#,
    );
    let ledger = rig.open().await;
    let first = "load-1 (refund, tid 7)
  2026-11-22T03:14:43.893Z  received
  2026-11-22T03:14:43.893Z  attempt 1 began
  2026-11-22T03:14:43.895Z  attempt 1: done http 200 status 0
  2026-11-22T03:14:43.895Z  finished: succeeded
  2026-11-22T03:14:43.895Z  event load-1.succeeded
";
    assert_eq!(show(&rig.settings(), "load-1").await.unwrap().unwrap(), first);
    let Claim::Interrupted(begun) = claim(&ledger, refund("load-2", "8", 1)).await else {
        panic!("its attempt has begun, and how it ended is not known");
    };
    assert!(begun.history.in_flight());
    assert_eq!(begun.history.first_received.as_nanosecond() % 1_000_000_000, 170_820_255);
}

#[tokio::test]
async fn on_sqlite_a_second_worker_is_told_what_to_do() {
    let rig = Rig::sqlite();
    let _ledger = rig.open().await;
    let error = refused(&rig.settings()).await;
    assert!(error.contains("is in use by another worker: an SQLite ledger serves one"), "{error}");
}

#[tokio::test]
async fn on_sqlite_a_damaged_file_is_named() {
    let rig = Rig::sqlite();
    std::fs::write(rig.path(), "this is no database at all, whatever it was".repeat(99)).unwrap();
    let error = refused(&rig.settings()).await;
    assert!(error.contains("ledger.db as a ledger: file is not a database"), "{error}");
}

/// Two workers of one PostgreSQL ledger.
async fn two_workers(test: &str) -> Option<(Rig, Ledger, Ledger)> {
    let rig = Rig::postgres(test).await?;
    let settings = rig.settings();
    let (one, two) = (opening(1, KEY), opening(2, [9; 32]));
    let (one, two) = tokio::join!(Ledger::open(&settings, &one), Ledger::open(&settings, &two));
    Some((rig, one.unwrap(), two.unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn several_workers_may_start_at_once_and_share_one_key() {
    let Some(rig) = Rig::postgres("several_workers_start").await else { return };
    let settings = rig.settings();
    let openings: Vec<_> = (0..8_u8).map(|n| opening(n.into(), [n; 32])).collect();
    let opened = openings.iter().map(|opening| Ledger::open(&settings, opening));
    let digests = join_all(opened).await.into_iter().map(|ledger| ledger.unwrap().digest(b"x"));
    assert_eq!(digests.collect::<std::collections::BTreeSet<_>>().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_one_gets_the_id_and_one_the_tid() {
    let Some((_rig, one, two)) = two_workers("two_workers_ids").await else { return };
    for round in 0..40 {
        let (id, tid) = (format!("same{round}"), format!("{round}"));
        // Each worker would lock out the other, were the locks not taken in one order.
        let same_ids = (0..200).map(|n| {
            let ledger = if n < 100 { &one } else { &two };
            spawned(ledger, request(&format!("{id}.{}", (n * 37) % 100), 0))
        });
        let same_tid = (0..100).map(|n| {
            let tid = if (n / 2) % 2 == 0 { format!("{tid}1") } else { format!("{tid}2") };
            let request = refund(&format!("{id}-{}", (n * 37) % 100), &tid, 0);
            spawned(if n % 2 == 0 { &one } else { &two }, request)
        });
        let (ids, tids) = tokio::join!(join_all(same_ids), join_all(same_tid));
        assert_eq!(count(&ids), BTreeMap::from([("busy", 100), ("fresh", 100)]));
        assert_eq!(count(&tids), BTreeMap::from([("busy", 98), ("fresh", 2)]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_claim_of_another_worker_counts_until_its_time_is_over() {
    let Some((_rig, one, two)) = two_workers("two_workers_lease").await else { return };
    let first = claimed(claim(&one, request("a", 0)).await);
    assert_eq!(word(&claim(&two, request("a", 54)).await), "busy");
    assert_eq!(word(&claim(&two, request("a", 55)).await), "interrupted");
    assert_eq!(
        one.finish(first.clone(), &unresolved("a"), false).await.unwrap(),
        LeaseStatus::Lost
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_refund_is_seen_by_the_other_worker() {
    let Some((_rig, one, two)) = two_workers("two_workers_refunded").await else { return };
    let first = claimed(claim(&one, refund("a", "77", 0)).await);
    assert_eq!(word(&claim(&two, refund("b", "77", 1)).await), "busy");
    one.finish(first.clone(), &succeeded("a", "5"), false).await.unwrap();
    assert_eq!(word(&claim(&two, refund("b", "77", 2)).await), "refunded");
}

/// The cable between one worker and the server.
#[derive(Clone)]
struct Cable {
    is_cut: Arc<AtomicBool>,
    /// The next commit arrives, but no answer to it.
    spares_commit: Arc<AtomicBool>,
    cutting: broadcast::Sender<()>,
}

impl Cable {
    fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
        self.cutting.send(()).unwrap();
    }

    fn mend(&self) {
        self.is_cut.store(false, Ordering::SeqCst);
    }

    /// Carries one connection until it is cut or closed.
    async fn carry(self, mut worker: TcpStream, mut server: TcpStream) {
        let mut cutting = self.cutting.subscribe();
        let (mut up, mut down) = ([0; 65_536], [0; 65_536]);
        loop {
            tokio::select! {
                read = worker.read(&mut up) => match read {
                    Ok(length @ 1..) => {
                        let bytes = &up[..length];
                        let has_commit = bytes.windows(7).any(|word| word == b"COMMIT\0");
                        server.write_all(bytes).await.unwrap();
                        if has_commit && self.spares_commit.swap(false, Ordering::SeqCst) {
                            return;
                        }
                    }
                    _ => return,
                },
                read = server.read(&mut down) => match read {
                    Ok(length @ 1..) => worker.write_all(&down[..length]).await.unwrap(),
                    _ => return,
                },
                _ = cutting.recv() => return,
            }
        }
    }
}

/// A ledger behind a cable.
async fn behind_cable(test: &str) -> Option<(Ledger, Cable)> {
    let Rig::Postgres(url) = Rig::postgres(test).await? else { return None };
    let mut url = url::Url::parse(url.expose_secret()).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(socket.local_addr().unwrap().port())).unwrap();
    let cable = Cable {
        is_cut: Arc::default(),
        spares_commit: Arc::default(),
        cutting: broadcast::channel(16).0,
    };
    let carrier = cable.clone();
    tokio::spawn(async move {
        loop {
            let (worker, _) = socket.accept().await.unwrap();
            if !carrier.is_cut.load(Ordering::SeqCst) {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(carrier.clone().carry(worker, server));
            }
        }
    });
    let settings = Settings::read(url.as_str()).unwrap();
    Some((Ledger::open(&settings, &opening(1, KEY)).await.unwrap(), cable))
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_lost_connection_is_made_anew_without_an_error() {
    let Some((ledger, cable)) = behind_cable("lost_connection").await else { return };
    claim(&ledger, request("a", 0)).await;
    for round in 0..5 {
        cable.cut();
        cable.mend();
        assert_eq!(word(&claim(&ledger, request(&format!("b{round}"), 0)).await), "fresh");
        assert_eq!(word(&claim(&ledger, request("a", 0)).await), "busy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_server_that_stays_away_is_an_error_until_it_is_back() {
    let Some((ledger, cable)) = behind_cable("server_away").await else { return };
    claim(&ledger, request("a", 0)).await;
    cable.cut();
    let (one, two) =
        tokio::join!(ledger.claim(request("a", 0), 1), ledger.claim(request("b", 0), 2));
    assert!(matches!((one, two), (Err(Error::Away(_)), Err(Error::Away(_)))));
    cable.mend();
    assert_eq!(word(&claim(&ledger, request("a", 0)).await), "busy");
    assert_eq!(word(&claim(&ledger, request("b", 0)).await), "fresh");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_commit_without_an_answer_is_an_error_though_it_may_stand() {
    let Some((ledger, cable)) = behind_cable("commit_unknown").await else { return };
    cable.spares_commit.store(true, Ordering::SeqCst);
    ledger.set_time(at(0));
    assert!(matches!(ledger.claim(request("a", 0), 1).await, Err(Error::Away(_))));
    assert_eq!(word(&claim(&ledger, request("a", 1)).await), "busy");
    assert_eq!(word(&claim(&ledger, request("a", 55)).await), "interrupted");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_server_that_is_away_is_an_error_in_time_and_no_secret_is_told() {
    let settings = Settings::read("postgres://worker:hunter2@127.0.0.1:1/ledger").unwrap();
    let error = refused(&settings).await;
    assert!(error.contains("Connection refused"), "{error}");
    assert!(!error.contains("hunter2") && !format!("{settings:?}").contains("hunter2"));
}

#[test]
fn a_ledger_url_is_one_of_two_and_a_wrong_one_is_not_repeated() {
    for url in [
        "sqlite://eko-worker.db",
        "sqlite:///var/lib/eko-worker.db",
        "postgres://worker:hunter2@db/ledger",
        "postgresql://worker@db:5433/ledger?sslmode=require",
        "postgres://worker:hunter2@db/ledger?sslmode=verify-full",
    ] {
        assert!(Settings::read(url).is_ok(), "{url}");
    }
    for url in [
        "",
        "sqlite://",
        "eko-worker.db",
        "mysql://worker:hunter2@db/ledger",
        "postgres://",
        "postgres://worker:hunter2@db",
        "postgres://worker:hunter2@db:x/ledger",
        "postgres://worker:hunter2@db/ledger?hunter2=x",
        "postgres://worker:hunter2@db/ledger?sslmode=allow",
    ] {
        let why = Settings::read(url).expect_err(url);
        assert!(why.starts_with("must be ") && !why.contains("hun"), "{url}: {why}");
    }
}

#[tokio::test]
async fn a_probe_fails_where_a_write_would_and_goes_well_again() {
    let rig = Rig::sqlite();
    let ledger = rig.open().await;
    let other = rusqlite::Connection::open(rig.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(ledger.probe().await, Err(Error::Store(_))));
    other.execute_batch("ROLLBACK").unwrap();
    // After a failure the store may have more to write than the probe.
    ledger.probe().await.unwrap();
    let log = rig.path().with_extension("db-wal");
    let before = std::fs::metadata(&log).unwrap().len();
    ledger.probe().await.unwrap();
    let after = std::fs::metadata(&log).unwrap().len();
    assert!(after > before, "a disk that is full can still be read: it must write");
}
