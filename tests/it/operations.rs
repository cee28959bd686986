//! What the people meet who run it: start, settings, readiness, metrics, logs, the end.

use serde_json::{Value, json};
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;

use crate::rig::command::{refund, transfer_otp};
use crate::rig::process::Process;
use crate::rig::proxy::Proxy;
use crate::rig::script::{refunded, transfer_otp_sent};
use crate::rig::stub::{Answer, TRANSFER_OTP};
use crate::rig::worker::{Settings, Worker};
use crate::rig::{ACCESS_KEY, DEVELOPER_KEY, Rig, WAIT_TIMEOUT, eventually};

/// Every setting of the contract.
const SETTINGS: &str = "AMQP_URL AMQP_CA_FILE AMQP_CLIENT_CERT_FILE AMQP_CLIENT_KEY_FILE \
    AMQP_ALLOW_PLAINTEXT AMQP_PREFIX EKO_BASE_URL EKO_ALLOW_HTTP EKO_CA_FILE EKO_DEVELOPER_KEY \
    EKO_ACCESS_KEY EKO_INITIATOR_ID EKO_USER_CODE EKO_TIMEOUT EKO_STAMP_TOLERANCE EKO_STAMP_AGE WORKER_CONCURRENCY \
    WORKER_ADAPTIVE WORKER_RATE_LIMIT EKO_RATE_LIMIT RETRY_INITIAL RETRY_MAX RETRY_GIVE_UP_OTP RETRY_GIVE_UP_REFUND \
    OTP_RESEND_SPACING SETTLE_POLL SETTLE_QUIET SETTLE_GIVE_UP REFUND_MAX_ATTEMPTS \
    REFUND_PREFLIGHT LEDGER_URL LEDGER_RETENTION ADMIN_ADDR LOG_FORMAT RUST_LOG \
    OTEL_EXPORTER_OTLP_ENDPOINT SHUTDOWN_GRACE";

#[tokio::test]
async fn it_starts_before_its_broker_and_outlives_a_lost_connection() {
    let mut proxy = Proxy::closed().await;
    let rig = Rig::builder().set("AMQP_URL", &proxy.amqp_url()).at_least_once();
    let mut rig = rig.start_without_worker().await;
    rig.spawn_worker();
    eventually("it is alive", async || (rig.worker().get("/healthz").await.0 == 200).then_some(()))
        .await;
    let (status, body) = rig.worker().get("/readyz").await;
    assert_eq!(status, 503);
    assert!(serde_json::from_str::<Value>(&body).unwrap().is_object(), "{body}");
    rig.until_metrics("it tells that the broker is away", |metrics| {
        metrics.value("broker_connected", &[]) == 0.0
    })
    .await;

    proxy.open().await;
    rig.worker().ready().await;
    assert_eq!(rig.outcome_of(&refund("first", "501")).await.told(), "succeeded response");

    proxy.close().await;
    eventually("it sees the loss", async || {
        (rig.worker().get("/readyz").await.0 == 503).then_some(())
    })
    .await;
    rig.publish(&refund("meanwhile", "502")).await;
    proxy.open().await;
    rig.worker().ready().await;
    let events = rig.events_of(["meanwhile"]).await;
    assert_eq!(events["meanwhile"].told(), "succeeded response");
    assert!(rig.worker().process.is_running());
    rig.finish().await;
    drop(proxy);
}

#[tokio::test]
async fn systemd_is_told_when_it_runs_lives_and_stops() {
    let mut rig = Rig::builder().start_without_worker().await;
    let path = rig.path("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    for (name, value) in [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")] {
        rig.settings.insert(name.to_owned(), value.to_owned());
    }
    // Read from the start, as systemd does: where nobody reads, whoever tells waits.
    let (heard, mut told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut buffer = [0; 64];
        while let Ok(length) = systemd.recv(&mut buffer).await {
            let said = String::from_utf8(buffer[..length].to_vec()).unwrap();
            heard.send(said.trim().to_owned()).ok();
        }
    });
    rig.start_worker().await;
    let mut told = async || tokio::time::timeout(WAIT_TIMEOUT, told.recv()).await.unwrap().unwrap();
    let (mut is_ready, mut alive) = (false, 0);
    while !is_ready || alive < 2 {
        match told().await.as_str() {
            "READY=1" if !is_ready => is_ready = true,
            "WATCHDOG=1" => alive += 1,
            other => panic!("{other}"),
        }
    }
    rig.worker().process.terminate();
    while told().await != "STOPPING=1" {}
    rig.end_of_worker().await;
    rig.finish().await;
}

#[tokio::test]
async fn all_wrong_settings_are_named_at_once_and_end_it_with_2() {
    let settings: Settings = [
        ("EKO_TIMEOUT", "soon"),
        ("EKO_BASE_URL", "http://eko.example.com/v3"),
        ("EKO_INITIATOR_ID", "123"),
        ("WORKER_CONCURRENCY", "0"),
        ("RETRY_MAX", "-5s"),
        ("REFUND_PREFLIGHT", "sometimes"),
        ("LEDGER_URL", "mysql://ledger"),
        ("ADMIN_ADDR", "nowhere"),
        ("LOG_FORMAT", "xml"),
        ("AMQP_URL", "http://127.0.0.1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    for arguments in [&["run"][..], &["check"][..]] {
        let (code, _, said) = Worker::output(arguments, &settings).await;
        assert_eq!(code, 2, "{said}");
        let unnamed: Vec<_> =
            settings.keys().filter(|name| !said.contains(name.as_str())).collect();
        assert!(unnamed.is_empty(), "{unnamed:?} are not named in:\n{said}");
        for missing in ["EKO_DEVELOPER_KEY", "EKO_ACCESS_KEY"] {
            assert!(said.contains(missing), "{missing} is not named in:\n{said}");
        }
    }
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_wrong() {
    let rig = Rig::builder().stub().start_without_worker().await;
    let cases = [
        ("SETTLE_QUIET", "1s", "SETTLE_QUIET"),
        ("RETRY_MAX", "1ms", "RETRY_MAX"),
        ("EKO_DEVELOPER_KEY_FILE", "/no/such/file", "EKO_DEVELOPER_KEY_FILE"),
    ];
    for (name, value, named) in cases {
        let mut settings = rig.settings.clone();
        settings.insert(name.to_owned(), value.to_owned());
        let (code, _, said) = Worker::output(&["run"], &settings).await;
        assert_eq!(code, 2, "{name}={value}: {said}");
        assert!(said.contains(named), "{named} is not named: {said}");
        let keys = [DEVELOPER_KEY, ACCESS_KEY];
        assert!(!keys.iter().any(|key| said.contains(key)), "a key is shown: {said}");
    }
}

#[tokio::test]
async fn help_lists_every_setting() {
    let (code, said, _) = Worker::output(&["run", "--help"], &Settings::new()).await;
    assert_eq!(code, 0);
    let unlisted: Vec<_> = SETTINGS.split(' ').filter(|name| !said.contains(name)).collect();
    assert!(unlisted.is_empty(), "{unlisted:?} are not in:\n{said}");
    let (code, said, _) = Worker::output(&["--help"], &Settings::new()).await;
    assert_eq!(code, 0);
    assert!(said.contains("run") && said.contains("check"), "{said}");
}

#[tokio::test]
async fn check_reaches_broker_and_eko() {
    let mut rig = Rig::builder().eko_tolerates("5s").start_without_worker().await;
    let (code, out, said) = Worker::output(&["check"], &rig.settings).await;
    assert_eq!(code, 0, "{out}{said}");
    rig.simulator()
        .control("keys", &json!({ "developer_key": "other", "access_key": "other" }))
        .await;
    let (code, out, said) = Worker::output(&["check"], &rig.settings).await;
    assert_eq!(code, 1, "the keys are wrong: {out}{said}");
    let closed = Proxy::closed().await.amqp_url();
    rig.settings.insert("AMQP_URL".to_owned(), closed);
    let (code, out, said) = Worker::output(&["check"], &rig.settings).await;
    assert_eq!(code, 1, "no broker: {out}{said}");
    for secret in [DEVELOPER_KEY, ACCESS_KEY] {
        assert!(!out.contains(secret) && !said.contains(secret));
    }
}

#[tokio::test]
async fn a_stop_lets_what_is_in_flight_end() {
    let mut rig = Rig::builder().stub().patient().start().await;
    let held = |answer| [Answer::Held(Box::new(answer))];
    rig.stub().on_refund("511", held(refunded("511")));
    rig.stub().on(TRANSFER_OTP, held(transfer_otp_sent()));
    rig.publish_all(&[refund("r", "511"), transfer_otp("t", "REF-1")]).await;
    let sent = async || (rig.stub().all_requests().len() == 2).then_some(());
    eventually("both calls are in flight", sent).await;
    rig.worker().process.terminate();
    rig.stub().release();
    rig.end_of_worker().await;
    let events = rig.events_of(["r", "t"]).await;
    assert!(events.values().all(|event| event.told() == "succeeded response"));
    rig.finish().await;
}

#[tokio::test]
async fn secrets_may_come_from_files() {
    let mut rig = Rig::builder().start_without_worker().await;
    for (name, value) in [("EKO_DEVELOPER_KEY", DEVELOPER_KEY), ("EKO_ACCESS_KEY", ACCESS_KEY)] {
        let path = rig.path(name);
        // As an editor leaves it: with a line end.
        std::fs::write(&path, format!("{value}\n")).unwrap();
        rig.settings.remove(name);
        rig.settings.insert(format!("{name}_FILE"), path.display().to_string());
    }
    rig.start_worker().await;
    assert_eq!(rig.outcome_of(&refund("signed", "521")).await.told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn settings_may_be_flags() {
    let rig = Rig::builder().start_without_worker().await;
    let mut settings = rig.settings.clone();
    let prefix = settings.remove("AMQP_PREFIX").unwrap();
    settings.remove("EKO_TIMEOUT");
    let arguments = ["run", "--amqp-prefix", &prefix, "--eko-timeout", "4s"];
    let process = Process::spawn(env!("CARGO_BIN_EXE_eko-worker"), &arguments, &settings);
    Worker { process }.ready().await;
    assert!(rig.broker.count("refund").await.is_some(), "the queues have the prefix of the flag");
}
