//! A ledger in PostgreSQL as it is deployed: a password that changes, TLS, a pool, a copy.

use serde_json::Value;
use tempfile::TempDir;
use url::Url;

use crate::load::store::{Database, Pool, Server, ask, execute};
use crate::rig::ca::Ca;
use crate::rig::command::{refund, text};
use crate::rig::worker::{Settings, Worker};
use crate::rig::{Rig, eventually};

/// Settings with another ledger.
fn with_ledger(settings: &Settings, url: &str) -> Settings {
    let mut settings = settings.clone();
    settings.insert("LEDGER_URL".to_owned(), url.to_owned());
    settings
}

/// What the worker says that it lacks, once it says so.
async fn lacking(rig: &mut Rig, what: &str) -> String {
    let worker = rig.worker();
    eventually(&format!("/readyz says {what}"), async || {
        let (status, body) = worker.get("/readyz").await;
        (status == 503 && body.contains(what)).then_some(body)
    })
    .await
}

#[tokio::test]
async fn a_password_that_changes_needs_no_restart_and_no_signal() {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path().join("postgres"));
    server.hba("host all rotating 127.0.0.1/32 scram-sha-256");
    let role = "CREATE ROLE rotating LOGIN PASSWORD 'first';
        GRANT CREATE ON DATABASE postgres TO rotating";
    execute(&server.url, role).await;
    let url = |password: &str| server.url.replace("eko@", &format!("rotating:{password}@"));
    let file = home.path().join("ledger-url");
    std::fs::write(&file, url("first")).unwrap();
    let mut rig = Rig::builder().at_least_once().start_without_worker().await;
    rig.plant("of-tomorrow");
    rig.settings.remove("LEDGER_URL");
    rig.settings.insert("LEDGER_URL_FILE".to_owned(), file.display().to_string());
    // After a failed look the next comes late: what wakes the worker is the ledger itself.
    rig.settings.insert("RETRY_INITIAL".to_owned(), "30s".to_owned());
    rig.settings.insert("RETRY_MAX".to_owned(), "30s".to_owned());
    rig.start_worker().await;
    assert_eq!(rig.outcome_of(&refund("before", "901")).await.told(), "succeeded response");

    // One after the other: who connects again before the first is committed is let in.
    execute(&server.url, "ALTER ROLE rotating PASSWORD 'of-tomorrow'").await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'";
    execute(&server.url, end).await;
    let said = lacking(&mut rig, "ledger: ").await;
    assert!(said.contains("password authentication failed"), "{said}");
    let (code, out, _) = Worker::output(&["check"], &rig.settings).await;
    assert!(code == 1 && out.contains("ledger      FAILED"), "{out}");
    rig.publish(&refund("meanwhile", "902")).await;

    // Half a file, as some editors write it, is no URL.
    std::fs::write(&file, "postgres://rot").unwrap();
    let worker = rig.worker();
    let says = async || worker.log().contains("the old URL stays").then_some(());
    eventually("what is no URL is not taken", says).await;
    std::fs::write(&file, url("of-tomorrow")).unwrap();
    rig.worker().ready().await;
    assert_eq!(rig.events_of(["meanwhile"]).await["meanwhile"].told(), "succeeded response");
    rig.worker().process.signal("HUP");
    let worker = rig.worker();
    let says = async || worker.log().contains("the URL has not changed").then_some(());
    eventually("a hangup reads it again, too", says).await;
    let (code, out, _) = Worker::output(&["check"], &rig.settings).await;
    assert!(out.contains("ledger      ok"), "{code}: {out}");
    rig.finish().await;
}

#[tokio::test]
async fn the_server_proves_who_it_is_as_sslmode_says() {
    let home = TempDir::new().unwrap();
    let ca = Ca::new(&home.path().join("ca"));
    let foreign = Ca::new(&home.path().join("foreign"));
    ca.sign("server", Some("localhost"));
    ca.sign("certified", None);
    let server = Server::start(home.path().join("postgres"));
    let roles = "CREATE ROLE encrypted LOGIN; CREATE ROLE certified LOGIN";
    execute(&server.url, roles).await;
    server.hba("hostssl all certified 127.0.0.1/32 cert");
    server.hba("hostnossl all encrypted 127.0.0.1/32 reject");
    server.speak_tls([&ca.file("server.pem"), &ca.file("server.key"), &ca.file("ca.pem")]);
    let port = Url::parse(&server.url).unwrap().port().unwrap();
    let own = ("LEDGER_CA_FILE", ca.file("ca.pem"));
    let other = ("LEDGER_CA_FILE", foreign.file("ca.pem"));
    let systems = ("SSL_CERT_FILE", ca.file("ca.pem"));
    let certificate = ("LEDGER_CLIENT_CERT_FILE", ca.file("certified.pem"));
    let key = ("LEDGER_CLIENT_KEY_FILE", ca.file("certified.key"));
    // Whoever gets in is told this.
    let works = "holds no ledger";
    for (place, files, expected) in [
        ("encrypted@localhost verify-full", vec![&own], works),
        ("encrypted@localhost verify-full", vec![&systems], works),
        ("encrypted@localhost verify-full", vec![&other], "UnknownIssuer"),
        ("encrypted@127.0.0.1 verify-full", vec![&own], "not valid for name"),
        ("encrypted@127.0.0.1 verify-ca", vec![&own], works),
        ("encrypted@127.0.0.1 verify-ca", vec![&other], "UnknownIssuer"),
        ("encrypted@127.0.0.1 require", vec![], works),
        ("encrypted@127.0.0.1 require", vec![&other], "UnknownIssuer"),
        ("encrypted@127.0.0.1 prefer", vec![], works),
        ("encrypted@127.0.0.1 disable", vec![], "pg_hba.conf rejects"),
        ("certified@localhost verify-full", vec![&own], "valid client certificate"),
        ("certified@localhost verify-full", vec![&own, &certificate, &key], works),
    ] {
        let (user, mode) = place.split_once(' ').unwrap();
        let url = format!("postgres://{user}:{port}/postgres?sslmode={mode}");
        let mut settings = Settings::from([("LEDGER_URL".to_owned(), url)]);
        settings.extend(files.into_iter().map(|(name, file)| ((*name).to_owned(), file.clone())));
        let (_, _, said) = Worker::output(&["show", "1"], &settings).await;
        assert!(said.contains(expected), "{place}: {said}");
    }
}

#[tokio::test]
async fn two_workers_share_a_ledger_behind_a_pool_and_leave_nothing_to_others() {
    let Some(pool) = Pool::start() else { return };
    let Some(database) = Database::new("").await else { return };
    let url = pool.before(&database.url);
    let mut rig = Rig::builder().set("LEDGER_URL", &url).at_least_once().start().await;
    let mut second = Worker::run(&rig.settings);
    second.ready().await;
    let ids: Vec<String> = (0..80).map(|nth| format!("pooled-{nth}")).collect();
    let commands: Vec<_> =
        (0..80).map(|nth| refund(&ids[nth], &(91_000 + nth).to_string())).collect();
    rig.publish_all(&commands).await;
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    assert!(events.values().all(|event| event.told() == "succeeded response"));
    for log in [rig.worker().log(), second.log()] {
        assert!(!log.contains("waiting for the ledger"), "{log}");
        assert!(!log.contains("the ledger failed"), "{log}");
    }
    second.process.terminate();
    assert_eq!(second.process.exit_code().await, 0);
    // Whichever of the pool's connections comes next.
    for _ in 0..4 {
        let left = "SELECT concat_ws(' ', current_setting('statement_timeout'),
            current_setting('enable_seqscan'), current_setting('search_path'),
            (SELECT count(*) FROM pg_prepared_statements),
            (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()))";
        assert_eq!(ask(&url, left).await, "0 on \"$user\", public 0 0");
    }
    rig.finish().await;
    database.remove().await;
}

#[tokio::test]
async fn a_copy_of_a_database_is_another_ledger() {
    let Some(database) = Database::new("").await else { return };
    let mut rig = Rig::builder().set("LEDGER_URL", &database.url).start().await;
    assert_eq!(rig.outcome_of(&refund("before", "931")).await.told(), "succeeded response");
    rig.stop_worker().await;
    let copy = database.copy().await;
    let copied = with_ledger(&rig.settings, &copy.url);
    rig.start_worker().await;

    let (code, _, said) = Worker::output(&["run"], &copied).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("this database is a copy"), "{said}");
    assert!(said.contains("LEDGER_ADOPT=true") && said.contains("belong to the ledger"), "{said}");
    let told = shown(&copied).await;
    assert_eq!(text(&told, "/pairing"), "other", "{told}");
    let first = shown(&rig.settings).await;
    assert_eq!((text(&first, "/pairing"), &first["id"]), ("ours", &told["paired_with"]));
    assert_eq!(rig.outcome_of(&refund("undisturbed", "932")).await.told(), "succeeded response");

    // Its id is its own from now on, and taking over makes it cautious.
    rig.stop_worker().await;
    let (code, out, said) = Worker::output(&["ledger", "adopt"], &copied).await;
    assert_eq!(code, 0, "{out}{said}");
    rig.settings = copied;
    rig.start_worker().await;
    assert_eq!(shown(&rig.settings).await["id"], told["id"]);
    let before = rig.simulator().calls("inquiry").await;
    assert_eq!(rig.outcome_of(&refund("after", "933")).await.told(), "succeeded response");
    assert!(rig.simulator().calls("inquiry").await > before, "what it does not know is asked for");
    rig.finish().await;
    database.remove().await;
    copy.remove().await;
}

/// What `ledger show --json` tells.
async fn shown(settings: &Settings) -> Value {
    let (code, out, said) = Worker::output(&["ledger", "show", "--json"], settings).await;
    assert_eq!(code, 0, "{out}{said}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test]
async fn a_database_that_cannot_keep_every_letter_is_refused_at_the_start() {
    let latin = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    let Some(database) = Database::new(latin).await else { return };
    let rig = Rig::builder().start_without_worker().await;
    let settings = with_ledger(&rig.settings, &database.url);
    let (code, _, said) = Worker::output(&["run"], &settings).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("LEDGER_URL: its encoding is LATIN1"), "{said}");
    database.remove().await;
}
