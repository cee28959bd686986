//! What the broker does to a worker: takes nothing for a while, ends connections and consumers,
//! has other queues than expected, or lets it do less than everything.

mod admin;
mod pairing;
mod tls;

use std::time::{Duration, Instant};

use lapin::types::AMQPValue;
use lapin::{BasicProperties, ExchangeKind};

use crate::load::node::Node;
use crate::rig::broker::Broker;
use crate::rig::command::{refund, transfer_otp};
use crate::rig::metrics::Metrics;
use crate::rig::proxy::Proxy;
use crate::rig::script::{checked, found, refunded, transfer_otp_sent};
use crate::rig::stub::{self, Answer, TRANSFER_OTP};
use crate::rig::worker::Worker;
use crate::rig::{COMMAND_QUEUES, Rig, eventually};
use admin::Admin;

/// How often the worker built a session: one line each.
fn sessions(rig: &mut Rig) -> usize {
    rig.worker().log().matches("connected to the broker; consuming").count()
}

fn is_paused(metrics: &Metrics, kind: &str, reason: &str) -> bool {
    metrics.value("paused", &[("kind", kind), ("reason", reason)]) == 1.0
}

fn own_node() -> Node {
    Node::start_in(tempfile::Builder::new().prefix("it-node-").tempdir().unwrap(), Vec::new())
}

#[tokio::test]
async fn a_broker_short_of_memory_pauses_every_kind_until_it_is_not() {
    let node = own_node();
    let rig = Rig::builder().at(&node.url).stub().patient().set("WORKER_CONCURRENCY", "1");
    let mut rig = rig.start().await;
    let held = Answer::Held(Box::new(transfer_otp_sent()));
    rig.stub().on(TRANSFER_OTP, [held, transfer_otp_sent()]);
    let (line, done) = (stub::refund("13192443"), refunded("13192443"));
    rig.stub().on(&line, [Answer::Held(Box::new(done))]);
    rig.publish_all(&["a", "b", "c"].map(|id| transfer_otp(id, &format!("REF-{id}")))).await;
    rig.publish(&refund("d", "13192443")).await;
    let called = async || (rig.stub().all_requests().len() == 2).then_some(());
    eventually("one call of each kind is in flight", called).await;
    let delivered = async || (rig.broker.count("transfer_otp").await == Some(1)).then_some(());
    eventually("a second command waits for the first one's call to end", delivered).await;

    node.be_short_of_memory(true);
    // The broker says that it takes nothing when it is next told something.
    rig.stub().release_only(&line);
    for kind in COMMAND_QUEUES {
        rig.until_metrics("every kind is paused", |now| is_paused(now, kind, "broker_blocked"))
            .await;
    }
    let (status, body) = rig.worker().get("/readyz").await;
    assert_eq!(status, 200, "a pause is no fault of the worker's: {body}");
    assert!(body.contains(r#""transfer_otp":"broker_blocked""#), "{body}");
    let waiting = async || (rig.broker.count("transfer_otp").await == Some(2)).then_some(());
    eventually("what has not begun is back in the queue", waiting).await;
    rig.stub().release();
    assert_eq!(rig.worker().metrics().await.value("broker_connected", &[]), 1.0);
    assert_eq!(rig.stub().all_requests().len(), 2, "nothing new was begun");

    node.be_short_of_memory(false);
    let events = rig.events_of(["a", "b", "c", "d"]).await;
    assert!(events.values().all(|event| event.told() == "succeeded response"));
    for kind in COMMAND_QUEUES {
        rig.until_metrics("it goes on", |now| !is_paused(now, kind, "broker_blocked")).await;
    }
    assert_eq!(rig.stub().all_requests().len(), 4, "each was called for once");
    assert_eq!(sessions(&mut rig), 1, "the connections outlived it");
    rig.finish().await;
}

#[tokio::test]
async fn a_worker_that_starts_while_memory_is_short_calls_for_nothing() {
    let node = own_node();
    let mut rig = Rig::builder().at(&node.url).stub().start().await;
    rig.stop_worker().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    rig.publish(&transfer_otp("a", "REF-A")).await;
    node.be_short_of_memory(true);
    rig.spawn_worker();
    for kind in COMMAND_QUEUES {
        rig.until_metrics("every kind is paused", |now| is_paused(now, kind, "broker_blocked"))
            .await;
    }
    let waiting = async || (rig.broker.count("transfer_otp").await == Some(1)).then_some(());
    eventually("the command is in the queue", waiting).await;
    assert!(rig.stub().all_requests().is_empty());
    rig.stop_worker().await;
    rig.start_worker().await;
    node.be_short_of_memory(false);
    assert_eq!(rig.events_of(["a"]).await["a"].told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn a_connection_that_ends_while_idle_is_noticed_at_once() {
    let node = own_node();
    let mut rig = Rig::builder().at(&node.url).at_least_once().stub().start().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    // A connection that is just closing has no properties any more.
    let end = |what: &str| {
        let name = format!("eko-worker {} {what}", rig.settings["AMQP_PREFIX"]);
        format!(
            "[(catch rabbit_networking:close_connection(P, \"a test\")) || C <- rabbit_networking:connections(), \
             [{{pid, P}}, {{client_properties, L}}] <- [(catch rabbit_networking:connection_info(C, [pid, client_properties]))], \
             {{<<\"connection_name\">>, longstr, <<\"{name}\">>}} <- L]."
        )
    };
    let (publishes, declares) = (end("publishes"), end("declares"));
    let consumes = end("consumes transfer_otp");
    for (ends, expression) in [(1, &publishes), (2, &declares), (3, &publishes)] {
        let said = node.ctl(&["eval", expression]);
        assert!(said.contains("ok"), "no such connection: {said}");
        let again = async || (sessions(&mut rig) == ends + 1).then_some(());
        eventually("it has built everything anew", again).await;
        rig.worker().ready().await;
    }
    let said = node.ctl(&["eval", &consumes]);
    assert!(said.contains("ok"), "no such connection: {said}");
    let is_lost = |now: &Metrics, kind| now.value("consumers_lost_total", &[("kind", kind)]) == 1.0;
    rig.until_metrics("its consumer is lost", |now| is_lost(now, "transfer_otp")).await;
    rig.worker().ready().await;
    assert_eq!(sessions(&mut rig), 4, "the others were not disturbed");
    assert_eq!(rig.worker().metrics().await.value("consumers_lost_total", &[]), 1.0);
    rig.publish(&transfer_otp("a", "REF-A")).await;
    assert_eq!(rig.events_of(["a"]).await["a"].told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn a_queue_without_a_leader_pauses_its_kind_alone_until_it_answers() {
    let node = own_node();
    let mut rig = Rig::builder().at(&node.url).stub().start().await;
    rig.stop_worker().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    rig.stub().on_refund("512", [refunded("512")]);
    rig.publish_all(&[transfer_otp("t", "REF-T"), refund("r", "512")]).await;
    // Its one replica is there and takes nothing: so is one that has forgotten its cluster.
    let server = format!("'%2F_{}'", rig.broker.name("transfer_otp"));
    let said = node.eval(&format!("sys:suspend({server})."));
    assert!(said.contains("ok"), "no such queue: {said}");
    rig.spawn_worker();
    assert_eq!(rig.events_of(["r"]).await["r"].told(), "succeeded response");
    rig.until_metrics("its kind is paused", |now| is_paused(now, "transfer_otp", "topology")).await;
    let (status, body) = rig.worker().get("/readyz").await;
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("it may have no leader"), "{body}");
    assert_eq!(sessions(&mut rig), 1, "the other kinds were not disturbed");

    node.eval(&format!("sys:resume({server})."));
    assert_eq!(rig.events_of(["t"]).await["t"].told(), "succeeded response");
    rig.until_metrics("it goes on", |now| !is_paused(now, "transfer_otp", "topology")).await;
    rig.finish().await;
}

/// The administrator of the rig's broker.
async fn admin(rig: &Rig, url: &str) -> Admin {
    Admin::connect(url, &rig.settings["AMQP_PREFIX"]).await
}

#[tokio::test]
async fn what_is_not_as_needed_at_the_start_is_named_and_ends_it_with_2() {
    let rig = Rig::builder().stub().start_without_worker().await;
    let admin = admin(&rig, &Broker::url()).await;
    rig.stub().on_inquiry("1", [found("1", 0)]);
    admin.queue("unrouted", &[("x-queue-type", AMQPValue::LongString("classic".into()))]).await;
    let (code, _, said) = Worker::output(&["run"], &rig.settings).await;
    assert_eq!(code, 2, "{said}");
    let queue = rig.broker.name("unrouted");
    for part in [&queue, "x-queue-type=quorum", "inequivalent arg 'x-queue-type'", "'classic'"] {
        assert!(said.contains(part), "{part} is not named: {said}");
    }
    let (code, out, said) = Worker::output(&["check"], &rig.settings).await;
    assert_eq!(code, 1, "{out}{said}");
    assert!(out.contains(&queue), "{out}");
    admin.delete_queue("unrouted").await;

    admin.delete_exchange("dead").await;
    admin.exchange("dead", ExchangeKind::Fanout).await;
    let (code, _, said) = Worker::output(&["run"], &rig.settings).await;
    assert_eq!(code, 2, "{said}");
    for part in [&*rig.broker.name("dead"), "topic", "'fanout'"] {
        assert!(said.contains(part), "{part} is not named: {said}");
    }
    admin.delete_exchange("dead").await;
    let mut rig = rig;
    rig.start_worker().await;
    rig.finish().await;
}

#[tokio::test]
async fn what_changes_later_pauses_the_kinds_that_need_it_until_it_is_repaired() {
    let mut proxy = Proxy::closed().await;
    proxy.open().await;
    let rig = Rig::builder().set("AMQP_URL", &proxy.amqp_url()).at_least_once().stub();
    let mut rig = rig.start().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    rig.stub().on_refund("611", [refunded("611")]);
    let admin = admin(&rig, &Broker::url()).await;

    proxy.close().await;
    admin.delete_queue("refund").await;
    admin.queue("refund", &[]).await;
    proxy.open().await;
    rig.until_metrics("the kind is paused", |now| is_paused(now, "refund", "topology")).await;
    rig.publish(&transfer_otp("a", "REF-A")).await;
    assert_eq!(rig.events_of(["a"]).await["a"].told(), "succeeded response");
    let (status, body) = rig.worker().get("/readyz").await;
    assert_eq!(status, 503, "{body}");
    for part in ["topology: queue", &rig.broker.name("refund"), "x-queue-type=quorum"] {
        assert!(body.contains(part), "{part} is not named: {body}");
    }
    assert!(!is_paused(&rig.worker().metrics().await, "transfer_otp", "topology"));
    admin.delete_queue("refund").await;
    rig.worker().ready().await;
    rig.publish(&refund("b", "611")).await;
    assert_eq!(rig.events_of(["b"]).await["b"].told(), "succeeded response");

    proxy.close().await;
    admin.delete_exchange("dead").await;
    admin.exchange("dead", ExchangeKind::Fanout).await;
    proxy.open().await;
    for kind in COMMAND_QUEUES {
        rig.until_metrics("every kind is paused", |now| is_paused(now, kind, "topology")).await;
    }
    admin.delete_exchange("dead").await;
    rig.worker().ready().await;
    let metrics = rig.metrics().await;
    assert!(COMMAND_QUEUES.iter().all(|kind| !is_paused(&metrics, kind, "topology")));
    rig.finish().await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_made_again_and_consumed() {
    let mut rig = Rig::builder().at_least_once().stub().start().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    let admin = admin(&rig, &Broker::url()).await;
    admin.delete_queue("transfer_otp").await;
    let is_there = async || rig.broker.count("transfer_otp").await;
    eventually("it is there again", is_there).await;
    rig.worker().ready().await;
    assert_eq!(sessions(&mut rig), 1, "the other kinds were not disturbed");
    rig.publish(&transfer_otp("a", "REF-A")).await;
    assert_eq!(rig.events_of(["a"]).await["a"].told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn a_command_under_another_kinds_key_waits_for_its_own_kind() {
    let node = own_node();
    let mut rig = Rig::builder().at(&node.url).stub().start().await;
    rig.stop_worker().await;
    rig.stub().on_refund("631", [refunded("631")]);
    let limited = node.user(
        "limited",
        [".*", ".*", r"^.*\.(refund_otp|transfer_otp|ledger|commands|dead|retry)$"],
    );
    rig.settings.insert("AMQP_URL".to_owned(), limited);
    rig.spawn_worker();
    rig.until_metrics("its kind is paused", |now| is_paused(now, "refund", "topology")).await;
    let strayed = refund("strayed", "631").to_string().into_bytes();
    rig.broker.command("eko.refund_otp.request", strayed, BasicProperties::default()).await;
    let waits = async || (rig.broker.count("refund").await == Some(1)).then_some(());
    eventually("it waits in the queue of its own kind", waits).await;
    assert_eq!(rig.broker.count("dead").await, Some(0));
    node.permit("limited", [".*", ".*", ".*"]);
    let event = rig.next_event().await;
    assert_eq!((event.command_id(), event.told().as_str()), ("strayed", "succeeded response"));
    rig.finish().await;
}

#[tokio::test]
async fn a_user_who_may_not_declare_finds_what_an_administrator_declared() {
    let node = own_node();
    let mut rig = Rig::builder().at(&node.url).at_least_once().stub().start_without_worker().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    rig.stub().on_refund("621", [refunded("621")]);
    // As little as the worker can do with.
    let write = r"^(.*\.(events|dead)|amq\.default)$";
    let read = r"^.*\.(refund|refund_otp|transfer_otp|ledger)$";
    let configure = r"^.*\.ledger\.holder$";
    let limited = node.user("limited", [configure, write, read]);
    let admin = admin(&rig, &node.url).await;

    let all = rig.settings.insert("AMQP_URL".to_owned(), limited.clone()).unwrap();
    let (code, _, said) = Worker::output(&["run"], &rig.settings).await;
    assert_eq!(code, 2, "{said}");
    for part in [&*rig.broker.name("dead"), "is missing", "configure permission"] {
        assert!(said.contains(part), "{part} is not named: {said}");
    }
    rig.settings.insert("AMQP_URL".to_owned(), all);
    rig.start_worker().await;
    rig.stop_worker().await;

    rig.settings.insert("AMQP_URL".to_owned(), limited);
    rig.stub().on_inquiry("1", checked());
    let (code, out, _) = Worker::output(&["check"], &rig.settings).await;
    assert!(out.contains("this user may not compare its arguments"), "{out}");
    assert_eq!(code, 0, "as little as the worker can do with: {out}");
    node.permit("limited", ["^$", r"^(.*\.events|amq\.default)$", r"^.*\.refund_otp$"]);
    rig.stub().on_inquiry("1", checked());
    let (code, out, _) = Worker::output(&["check"], &rig.settings).await;
    assert_eq!(code, 1, "{out}");
    let missing = format!(
        "permissions FAILED: the user of AMQP_URL has no write on exchange {}, no read on queue \
         {}, no read on queue {}, no read on queue {}, no configure on queue {}\n",
        rig.broker.name("dead"),
        rig.broker.name("refund"),
        rig.broker.name("transfer_otp"),
        rig.broker.name("ledger"),
        rig.broker.name("ledger.holder")
    );
    assert!(format!("{out}\n").contains(&missing), "{missing} is not in {out}");
    node.permit("limited", [configure, write, read]);
    rig.start_worker().await;
    assert_eq!(rig.worker().log().matches("may not declare").count(), 1);
    rig.publish(&transfer_otp("a", "REF-A")).await;
    assert_eq!(rig.events_of(["a"]).await["a"].told(), "succeeded response");

    admin.delete_queue("transfer_otp").await;
    rig.until_metrics("the kind waits for its queue", |now| {
        is_paused(now, "transfer_otp", "topology")
    })
    .await;
    rig.publish(&refund("b", "621")).await;
    assert_eq!(rig.events_of(["b"]).await["b"].told(), "succeeded response");
    admin.queue_of("transfer_otp").await;
    rig.worker().ready().await;
    rig.publish(&transfer_otp("c", "REF-C")).await;
    assert_eq!(rig.events_of(["c"]).await["c"].told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn a_delivery_that_the_broker_gave_up_waiting_for_is_called_for_once() {
    let node = own_node();
    node.ctl(&[
        "eval",
        "application:set_env(rabbit, channel_tick_interval, 500), \
         application:set_env(rabbit, consumer_timeout, 1000).",
    ]);
    let rig = Rig::builder().at(&node.url).at_least_once().stub().patient();
    let mut rig = rig.start().await;
    rig.stub().on_refund("631", [Answer::Held(Box::new(refunded("631")))]);
    rig.publish(&refund("a", "631")).await;
    let is_lost = |now: &Metrics| now.value("consumers_lost_total", &[("kind", "refund")]) >= 1.0;
    rig.until_metrics("the broker has closed the channel, and it was built anew", is_lost).await;
    rig.worker().ready().await;
    rig.stub().release();
    assert_eq!(rig.events_of(["a"]).await["a"].told(), "succeeded response");
    assert_eq!(rig.stub().all_requests().len(), 1, "called for once");
    let is_answered = |now: &Metrics| now.value("replays_total", &[]) >= 1.0;
    rig.until_metrics("what was delivered again is answered", is_answered).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_user_who_may_not_publish_does_not_have_commands_delivered_over_and_over() {
    let node = own_node();
    let mut rig = Rig::builder().at(&node.url).at_least_once().stub().start_without_worker().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    let url = node.user("mute", [".*", r"^(?!.*\.events$).*$", ".*"]);
    rig.settings.insert("AMQP_URL".to_owned(), url);
    rig.start_worker().await;
    let begun = Instant::now();
    rig.publish(&transfer_otp("a", "REF-A")).await;
    let again = async || (sessions(&mut rig) == 3).then_some(());
    eventually("it has tried again, twice", again).await;
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(2), "a second and two, less the jitter: {took:?}");
    let told = rig.worker().log();
    assert!(told.contains("ACCESS_REFUSED") && told.contains(&rig.broker.name("events")), "{told}");
    node.permit("mute", [".*", ".*", ".*"]);
    assert_eq!(rig.events_of(["a"]).await["a"].told(), "succeeded response");
    assert_eq!(rig.stub().all_requests().len(), 1, "called for once");
    rig.finish().await;
}

#[tokio::test]
async fn the_next_node_is_tried_where_one_is_lost() {
    let (mut one, mut two) = (Proxy::closed().await, Proxy::closed().await);
    one.open().await;
    let nodes = format!("{},{}", one.amqp_url(), two.amqp_url());
    let mut rig = Rig::builder().set("AMQP_URL", &nodes).at_least_once().stub().start().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    two.open().await;
    one.close().await;
    let again = async || (sessions(&mut rig) == 2).then_some(());
    eventually("it is connected to the other node", again).await;
    rig.worker().ready().await;
    rig.publish(&transfer_otp("a", "REF-A")).await;
    assert_eq!(rig.events_of(["a"]).await["a"].told(), "succeeded response");
    one.open().await;
    two.close().await;
    let again = async || (sessions(&mut rig) == 3).then_some(());
    eventually("it is connected to the first node again", again).await;
    rig.worker().ready().await;
    rig.finish().await;
}

#[tokio::test]
async fn a_password_that_changes_at_the_broker_needs_no_restart_and_no_signal() {
    let node = own_node();
    let url = node.user("rotating", [".*", ".*", ".*"]);
    let mut rig = Rig::builder().at(&node.url).at_least_once().start_without_worker().await;
    let file = rig.path("amqp-url");
    std::fs::write(&file, &url).unwrap();
    rig.settings.remove("AMQP_URL");
    rig.settings.insert("AMQP_URL_FILE".to_owned(), file.display().to_string());
    rig.start_worker().await;
    assert_eq!(rig.outcome_of(&refund("before", "941")).await.told(), "succeeded response");

    node.eval(
        "rabbit_auth_backend_internal:change_password(<<\"rotating\">>, <<\"of-tomorrow\">>, <<\"a test\">>),
         [(catch rabbit_networking:close_connection(Pid, \"rotated\")) || [{pid, Pid}, {user, <<\"rotating\">>}]
             <- rabbit_networking:connection_info_all([pid, user])].",
    );
    let worker = rig.worker();
    let says = async || {
        let (status, body) = worker.get("/readyz").await;
        (status == 503 && body.contains("ACCESS_REFUSED")).then_some(())
    };
    eventually("/readyz says that the broker refuses", says).await;
    let (code, out, _) = Worker::output(&["check"], &rig.settings).await;
    assert!(code == 1 && out.contains("broker      FAILED"), "{out}");
    rig.publish(&refund("meanwhile", "942")).await;
    std::fs::write(&file, url.replace("rotating:rotating", "rotating:of-tomorrow")).unwrap();
    rig.worker().ready().await;
    assert_eq!(rig.events_of(["meanwhile"]).await["meanwhile"].told(), "succeeded response");
    assert!(!rig.worker().log().contains("of-tomorrow"), "it is a secret");
    rig.finish().await;
}
