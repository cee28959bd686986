//! Queues and ledger belong together: another ledger is refused, one that has forgotten is noticed.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Admin, admin, is_paused, own_node};
use crate::rig::broker::Broker;
use crate::rig::command::{refund, text, transfer_otp};
use crate::rig::metrics::Metrics;
use crate::rig::worker::{Settings, Worker};
use crate::rig::{COMMAND_QUEUES, Rig, eventually};

/// The rig's settings with a ledger of their own, as a second deployment would have.
fn other_ledger(rig: &Rig) -> Settings {
    let mut settings = rig.settings.clone();
    let path = rig.path("other.db");
    settings.insert("LEDGER_URL".to_owned(), format!("sqlite://{}", path.display()));
    settings
}

/// What `ledger show --json` tells.
async fn shown(settings: &Settings) -> Value {
    let (code, out, said) = Worker::output(&["ledger", "show", "--json"], settings).await;
    assert_eq!(code, 0, "{out}{said}");
    serde_json::from_str(&out).unwrap()
}

async fn id_of(settings: &Settings) -> String {
    text(&shown(settings).await, "/id").to_owned()
}

/// Waits until the register says what the ledger has.
async fn until_registered(rig: &Rig) {
    eventually("the register has the ledger's commits", async || {
        let told = shown(&rig.settings).await;
        (told["register_commits"] == told["commits"]).then_some(())
    })
    .await;
}

fn regressions(metrics: &Metrics) -> f64 {
    metrics.value("ledger_regressions_total", &[])
}

fn copy_ledger(from: &Path, to: &Path) {
    for end in ["", "-wal", "-shm"] {
        let name = |path: &Path| PathBuf::from(format!("{}{end}", path.display()));
        std::fs::remove_file(name(to)).ok();
        if name(from).exists() {
            std::fs::copy(name(from), name(to)).unwrap();
        }
    }
}

#[tokio::test]
async fn a_second_worker_with_a_ledger_of_its_own_does_not_consume_and_says_why() {
    let mut rig = Rig::start().await;
    let settings = other_ledger(&rig);
    let (code, _, said) = Worker::output(&["run"], &settings).await;
    assert_eq!(code, 2, "{said}");
    let (ours, theirs) = (id_of(&rig.settings).await, id_of(&settings).await);
    assert_ne!(ours, theirs);
    let path = rig.path("other.db").display().to_string();
    for part in
        [&ours, &theirs, &path, "LEDGER_URL", "LEDGER_ADOPT=true", "ledger adopt", "AMQP_PREFIX"]
    {
        assert!(said.contains(part), "{part} is not named: {said}");
    }
    assert!(said.contains("this ledger is new"), "a new ledger is told loudly: {said}");
    assert_eq!(rig.outcome_of(&refund("undisturbed", "701")).await.told(), "succeeded response");
    let told = shown(&settings).await;
    assert_eq!((text(&told, "/pairing"), text(&told, "/paired_with")), ("other", ours.as_str()));
    let (code, out, _) = Worker::output(&["check"], &settings).await;
    assert_eq!(code, 1, "{out}");
    assert!(out.contains("pairing     FAILED: the queues of AMQP_PREFIX"), "{out}");
    assert!(out.contains(&ours) && out.contains(&theirs), "{out}");
    rig.finish().await;
}

#[tokio::test]
async fn of_two_copies_of_a_ledger_one_consumes_and_the_other_takes_its_place() {
    let mut rig = Rig::builder().impatient().start().await;
    assert_eq!(rig.outcome_of(&refund("before", "751")).await.told(), "succeeded response");
    rig.stop_worker().await;
    copy_ledger(&rig.path("ledger.db"), &rig.path("other.db"));
    rig.start_worker().await;
    assert!(!rig.worker().log().contains("uses the queues"), "{}", rig.worker().log());

    let mut settings = other_ledger(&rig);
    let mut second = Worker::run(&settings);
    let waits = async || second.log().contains("uses the queues").then_some(());
    eventually("the copy's worker says why it waits", waits).await;
    let (path, id) = (rig.path("other.db").display().to_string(), id_of(&rig.settings).await);
    for part in ["an SQLite ledger serves one worker", "LEDGER_URL", &path, &id] {
        assert!(second.log().contains(part), "{part} is not named: {}", second.log());
    }
    let (status, body) = second.get("/readyz").await;
    assert!(status == 503 && body.contains("uses the queues"), "{body}");
    rig.publish_all(&[1, 2, 3, 4].map(|nth| refund(&format!("first-{nth}"), &format!("76{nth}"))))
        .await;
    rig.events_of(["first-1", "first-2", "first-3", "first-4"]).await;
    assert_eq!(second.log().matches("waiting to consume").count(), 1, "{}", second.log());
    assert!(!second.log().contains("consuming"), "{}", second.log());

    // What is not acknowledged comes again, to a ledger that does not know it.
    rig.until_metrics("all is acknowledged", |now| now.value("in_flight", &[]) == 0.0).await;
    rig.kill9();
    second.ready().await;
    assert_eq!(rig.outcome_of(&refund("second", "771")).await.told(), "succeeded response");

    // Where the first one does not go away, the other one ends.
    let url = rig.settings["AMQP_URL"].clone();
    let and = if url.contains('?') { '&' } else { '?' };
    copy_ledger(&rig.path("ledger.db"), &rig.path("third.db"));
    settings
        .insert("LEDGER_URL".to_owned(), format!("sqlite://{}", rig.path("third.db").display()));
    settings.insert("AMQP_URL".to_owned(), format!("{url}{and}heartbeat=1"));
    let (code, _, said) = Worker::output(&["run"], &settings).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("eko-worker: another worker with an SQLite ledger of this id"), "{said}");
    second.process.terminate();
    assert_eq!(second.process.exit_code().await, 0);
    rig.finish().await;
}

#[tokio::test]
async fn a_holder_whose_node_is_lost_is_named_with_the_command_that_frees_it() {
    let node = own_node();
    let mut rig = Rig::builder().at(&node.url).start_without_worker().await;
    // As RabbitMQ since 4.2 keeps it: the queue is there, and its process is not.
    let holder = rig.broker.inbox("ledger.holder", None).await;
    let queue = rig.broker.name("ledger.holder");
    let lose = format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)), \
         Gone = amqqueue:set_pid(Q, spawn(fun() -> ok end)), \
         code:ensure_loaded(rabbit_db_queue), \
         case erlang:function_exported(rabbit_db_queue, set, 1) of \
             true -> rabbit_db_queue:set(Gone); \
             false -> mnesia:dirty_write(rabbit_queue, Gone) \
         end."
    );
    node.eval(&lose);
    rig.spawn_worker();
    let command = format!("rabbitmqctl delete_queue {queue}");
    let said = async || {
        let log = rig.worker().log();
        (log.contains(&command) && log.contains("is lost")).then_some(())
    };
    eventually("the log names the queue and the command", said).await;
    let (status, body) = rig.worker().get("/readyz").await;
    assert!(status == 503 && body.contains(&command), "{body}");
    drop(holder);
}

#[tokio::test]
async fn a_register_that_was_emptied_makes_the_worker_cautious_at_its_next_start() {
    let mut rig = Rig::builder().impatient().start().await;
    assert_eq!(rig.outcome_of(&refund("before", "781")).await.told(), "succeeded response");
    rig.stop_worker().await;
    rig.start_worker().await;
    assert_eq!(regressions(&rig.metrics().await), 0.0);
    rig.stop_worker().await;
    let admin: Admin = admin(&rig, &Broker::url()).await;
    admin.purge_queue("ledger").await;
    rig.start_worker().await;
    let log = rig.worker().log();
    assert_eq!(log.matches("has lost the record").count(), 1, "{log}");
    assert_eq!(regressions(&rig.metrics().await), 1.0);
    assert_eq!(rig.outcome_of(&refund("unknown", "782")).await.told(), "succeeded response");
    let asked = rig.simulator().state().await["inquiries"]["782"].as_u64();
    assert!(asked >= Some(2), "{asked:?} inquiries before the refund");
    until_registered(&rig).await;
    rig.stop_worker().await;
    rig.start_worker().await;
    assert_eq!(regressions(&rig.metrics().await), 0.0, "it is said once");
    rig.finish().await;
}

#[tokio::test]
async fn a_mistyped_path_does_not_take_the_queues_away() {
    let mut rig = Rig::start().await;
    let settings = other_ledger(&rig);
    let path = rig.path("other.db");
    let (code, out, said) = Worker::output(&["ledger", "adopt"], &settings).await;
    assert_eq!((code, out.as_str()), (1, ""), "{said}");
    for part in [path.display().to_string().as_str(), "--new", "LEDGER_URL"] {
        assert!(said.contains(part), "{part} is not named: {said}");
    }
    assert!(!path.exists(), "it was made");
    let (code, _, said) = Worker::output(&["run"], &settings).await;
    assert_eq!(code, 2, "{said}");
    let (code, out, said) = Worker::output(&["ledger", "adopt"], &settings).await;
    assert_eq!((code, out.as_str()), (1, ""), "{said}");
    assert!(said.contains("has never kept a command") && said.contains("--new"), "{said}");
    assert!(said.contains(&path.display().to_string()), "{said}");
    assert_eq!(text(&shown(&rig.settings).await, "/pairing"), "ours");
    assert_eq!(rig.outcome_of(&refund("undisturbed", "791")).await.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn of_two_workers_with_new_ledgers_that_start_at_once_one_consumes() {
    let rig = Rig::builder().start_without_worker().await;
    let other = other_ledger(&rig);
    let mut workers = [Worker::run(&rig.settings), Worker::run(&other)];
    let ended = async || workers.iter_mut().position(|worker| !worker.process.is_running());
    let loser = eventually("one of them ends", ended).await;
    assert_eq!(workers[loser].process.exit_code().await, 2, "{}", workers[loser].log());
    let winner = &mut workers[1 - loser];
    winner.ready().await;
    winner.process.terminate();
    assert_eq!(winner.process.exit_code().await, 0);
    rig.finish().await;
}

#[tokio::test]
async fn in_another_directory_the_same_command_is_not_executed_again() {
    let mut rig = Rig::builder().impatient().start_without_worker().await;
    rig.settings.remove("LEDGER_URL");
    let run_in = |rig: &Rig, name: &str| {
        let dir = rig.path(name);
        std::fs::create_dir_all(&dir).unwrap();
        Worker::run_in(&["env", "-C", dir.to_str().unwrap()].map(str::to_owned), &rig.settings)
    };
    rig.settings.insert("PATH".to_owned(), "/usr/bin:/bin".to_owned());
    let mut first = run_in(&rig, "one");
    first.ready().await;
    let path = rig.path("one").join("eko-worker.db").display().to_string();
    assert!(first.log().contains(&path), "its full path is told: {}", first.log());
    assert_eq!(rig.outcome_of(&refund("again", "711")).await.told(), "succeeded response");
    first.process.terminate();
    assert_eq!(first.process.exit_code().await, 0);

    let mut second = run_in(&rig, "two");
    assert_eq!(second.process.exit_code().await, 2, "{}", second.log());
    rig.settings.insert("LEDGER_ADOPT".to_owned(), "true".to_owned());
    let mut second = run_in(&rig, "two");
    second.ready().await;
    assert!(second.log().contains("has taken over the queues from"), "{}", second.log());
    let calls = rig.simulator().calls("refund").await;
    rig.publish(&refund("again-2", "711")).await;
    let event = rig.next_event().await;
    assert_eq!((event.command_id(), event.told().as_str()), ("again-2", "succeeded inquiry"));
    assert_eq!(rig.simulator().calls("refund").await, calls, "inquired first");
    second.process.terminate();
    assert_eq!(second.process.exit_code().await, 0);
    // Where the pairing fits already, there is nothing to adopt.
    let mut third = run_in(&rig, "two");
    third.ready().await;
    assert!(!third.log().contains("has taken over the queues from"), "{}", third.log());
    third.process.terminate();
    assert_eq!(third.process.exit_code().await, 0);
    assert_eq!(rig.simulator().executions("711").await, 1);
    rig.finish().await;
}

#[tokio::test]
async fn a_ledger_that_takes_over_stops_the_other_ones_worker_until_it_is_given_back() {
    let mut rig = Rig::start().await;
    let admin: Admin = admin(&rig, &Broker::url()).await;
    let settings = other_ledger(&rig);
    let (code, out, said) = Worker::output(&["ledger", "adopt", "--new"], &settings).await;
    assert_eq!(code, 0, "{out}{said}");
    assert!(out.contains("this ledger is NEW"), "{out}");
    let ours = id_of(&rig.settings).await;
    assert!(out.contains(&format!("from the ledger {ours}")), "{out}");
    for kind in COMMAND_QUEUES {
        rig.until_metrics("every kind is paused", |now| is_paused(now, kind, "ledger")).await;
    }
    let (status, body) = rig.worker().get("/readyz").await;
    let theirs = id_of(&settings).await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains(&ours) && body.contains(&theirs), "{body}");
    let told = shown(&settings).await;
    assert_eq!(text(&told, "/pairing"), "ours");
    assert!(told["adopted"].is_string() && told["forgot"].is_null(), "{told}");
    let (code, out, _) = Worker::output(&["ledger", "adopt"], &settings).await;
    assert_eq!(code, 0);
    assert!(out.contains("belong to this ledger already"), "{out}");
    rig.publish(&refund("waits", "721")).await;
    let (code, _, said) = Worker::output(&["ledger", "adopt"], &rig.settings).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("is in use by another worker"), "{said}");
    assert_eq!(rig.simulator().calls("refund").await, 0, "nothing is consumed");

    admin.delete_exchange("ledger").await;
    assert_eq!(rig.next_event().await.told(), "succeeded response");
    rig.worker().ready().await;
    rig.finish().await;
}

#[tokio::test]
async fn a_ledger_that_is_older_than_its_queues_is_noticed_and_nothing_runs_twice() {
    let mut rig = Rig::builder().impatient().start().await;
    assert_eq!(rig.outcome_of(&refund("before", "731")).await.told(), "succeeded response");
    rig.stop_worker().await;
    copy_ledger(&rig.path("ledger.db"), &rig.path("backup.db"));
    rig.start_worker().await;
    assert_eq!(regressions(&rig.metrics().await), 0.0);
    assert_eq!(rig.outcome_of(&refund("after", "732")).await.told(), "succeeded response");
    rig.stop_worker().await;
    until_registered(&rig).await;
    copy_ledger(&rig.path("backup.db"), &rig.path("ledger.db"));
    rig.start_worker().await;
    assert_eq!(regressions(&rig.metrics().await), 1.0);
    let log = rig.worker().log();
    assert!(log.contains("the ledger has lost commits"), "{log}");
    rig.publish(&refund("after-2", "732")).await;
    let event = rig.next_event().await;
    assert_eq!((event.command_id(), event.told().as_str()), ("after-2", "succeeded inquiry"));
    assert_eq!(rig.simulator().executions("732").await, 1);
    // It is said once: the register has what the ledger has.
    until_registered(&rig).await;
    rig.stop_worker().await;
    rig.start_worker().await;
    assert_eq!(regressions(&rig.metrics().await), 0.0);
    assert!(shown(&rig.settings).await["forgot"].is_string());
    rig.finish().await;
}

#[tokio::test]
async fn a_ledger_that_is_taken_away_pauses_every_kind_until_it_is_back() {
    let mut rig = Rig::start().await;
    for (name, tid) in [("ledger.db", "741"), ("ledger.db-wal", "742"), ("ledger.db-shm", "743")] {
        let (path, away) = (rig.path(name), rig.path("away"));
        std::fs::rename(&path, &away).unwrap();
        for kind in COMMAND_QUEUES {
            rig.until_metrics("every kind is paused", |now| is_paused(now, kind, "ledger")).await;
        }
        let said = format!("{} was deleted while this worker uses it", path.display());
        let (status, ready) = rig.worker().get("/readyz").await;
        assert!(status == 200 && ready.contains(&said), "paused is ready, too: {status} {ready}");
        assert!(rig.worker().log().contains(&said), "{}", rig.worker().log());
        rig.publish(&refund(tid, tid)).await;
        // Another file in its place is none.
        std::fs::write(&path, b"").unwrap();
        let worker = rig.worker();
        eventually("it says what is there now", async || {
            let (_, ready) = worker.get("/readyz").await;
            ready.contains("was replaced by another file").then_some(())
        })
        .await;
        assert_eq!(rig.simulator().executions(tid).await, 0, "{name}");
        std::fs::rename(&away, &path).unwrap();
        assert_eq!(rig.next_event().await.told(), "succeeded response");
        rig.until_metrics("no kind is paused", |now| now.value("paused", &[]) == 0.0).await;
        let (_, ready) = rig.worker().get("/readyz").await;
        assert!(!ready.contains("\"ledger\""), "{ready}");
    }
    rig.finish().await;
}

#[tokio::test]
async fn a_user_who_may_not_declare_is_told_by_the_register_whose_the_queues_are() {
    let node = own_node();
    let mut rig = Rig::builder().at(&node.url).start().await;
    assert_eq!(rig.outcome_of(&transfer_otp("t", "REF-T")).await.outcome(), "succeeded");
    rig.stop_worker().await;
    until_registered(&rig).await;
    let write = r"^(.*\.(events|dead|retry)|amq\.default)$";
    let read = r"^.*\.(refund|refund_otp|transfer_otp|ledger)$";
    let limited = node.user("limited", ["^$", write, read]);
    rig.settings.insert("AMQP_URL".to_owned(), limited);
    let (ours, other) = (id_of(&rig.settings).await, other_ledger(&rig));
    let (code, _, said) = Worker::output(&["run"], &other).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains(&ours), "{said}");
    let (code, _, said) = Worker::output(&["ledger", "adopt", "--new"], &other).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("may not declare it"), "{said}");
    rig.start_worker().await;
    assert!(!rig.worker().log().contains("cannot check whether"), "{}", rig.worker().log());
    rig.stop_worker().await;

    node.permit("limited", ["^$", write, r"^.*\.(refund|refund_otp|transfer_otp)$"]);
    rig.start_worker().await;
    let log = rig.worker().log();
    assert_eq!(log.matches("cannot check whether").count(), 1);
    assert_eq!(log.matches("cannot notice a copy of this SQLite ledger").count(), 1, "{log}");
    rig.stop_worker().await;
    rig.finish().await;
}
