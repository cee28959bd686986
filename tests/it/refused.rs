//! What the broker refuses of one command's end, since a queue of somebody else's is full or gone, is
//! nobody else's problem.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};

use crate::load::node::Node;
use crate::rig::broker::Broker;
use crate::rig::command::{refund, refund_otp, transfer_otp};
use crate::rig::event::Event;
use crate::rig::script::{http, otp_sent, refunded, said, transfer_otp_sent};
use crate::rig::stub::{self, Answer, TRANSFER_OTP};
use crate::rig::{Rig, eventually};

/// How often the worker built a session: one line each.
fn sessions(rig: &mut Rig) -> usize {
    rig.worker().log().matches("connected to the broker; consuming").count()
}

fn own_node() -> Node {
    Node::start_in(tempfile::Builder::new().prefix("it-node-").tempdir().unwrap(), Vec::new())
}

/// Somebody limits a queue; the limit of a quorum queue is soft.
fn limit(node: &Node, queue: &str) {
    let pattern = format!("^{}$", queue.replace('.', "\\."));
    let limit = r#"{"max-length":1,"overflow":"reject-publish"}"#;
    node.ctl(&["set_policy", "full", &pattern, limit, "--apply-to", "queues"]);
}

fn asking(reply_to: &str) -> BasicProperties {
    BasicProperties::default().with_reply_to(reply_to.into())
}

#[tokio::test]
async fn a_reply_that_nobody_takes_is_dropped_and_holds_up_nothing() {
    let mut rig = Rig::builder().stub().start().await;
    let mut replies = rig.broker.inbox("test-replies", None).await;
    rig.broker.queue_of_one("test-full", "classic", None).await;
    rig.broker.put("test-full", b"the one that fits").await;
    let (full, good) = (rig.broker.name("test-full"), rig.broker.name("test-replies"));
    let own = ["dead", "unrouted", "ledger", "refund_otp", "retry.refund.250ms", "retry.250ms"];
    let own: Vec<_> = own.map(|queue| rig.broker.name(queue)).to_vec();
    let mut reply_tos = vec![full.as_str(), "it-no-such-queue", "amq.rabbitmq.reply-to.no.body"];
    reply_tos.extend(own.iter().map(String::as_str));
    for (nth, reply_to) in reply_tos.iter().enumerate() {
        rig.stub().on(TRANSFER_OTP, [transfer_otp_sent(), transfer_otp_sent()]);
        let (bad, well) = (format!("bad-{nth}"), format!("well-{nth}"));
        rig.publish_with(&transfer_otp(&bad, &format!("REF-B{nth}")), asking(reply_to)).await;
        rig.publish_with(&transfer_otp(&well, &format!("REF-W{nth}")), asking(&good)).await;
        let events = rig.events_of([bad.as_str(), well.as_str()]).await;
        let reply = Event::read(replies.next("the reply beside one that is dropped").await);
        assert_eq!(reply.body, events[&well].body, "beside {reply_to}");
    }
    assert_eq!(sessions(&mut rig), 1, "no session ended");
    let said = async || {
        let log = rig.worker().log();
        let dropped = log.matches("a reply was dropped").count();
        (dropped >= 2 && log.matches("of the worker itself").count() == own.len()).then_some(())
    };
    eventually("each is named in the log", said).await;
    rig.broker.delete("test-full").await;
    rig.finish().await;
}

#[tokio::test]
async fn a_direct_reply_arrives_and_nothing_is_said_of_a_queue_that_is_gone() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    let caller =
        Connection::connect(&Broker::url(), ConnectionProperties::default()).await.unwrap();
    let channel = caller.create_channel().await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let direct = "amq.rabbitmq.reply-to";
    let consumer = channel.basic_consume(direct.into(), "".into(), options, FieldTable::default());
    let mut consumer = consumer.await.unwrap();
    let (exchange, key) = (rig.broker.name("commands"), "eko.transfer_otp.request");
    let (options, body) = (BasicPublishOptions::default(), transfer_otp("direct", "REF-D"));
    let body = body.to_string().into_bytes();
    let sent =
        channel.basic_publish(exchange.as_str().into(), key.into(), options, &body, asking(direct));
    sent.await.unwrap().await.unwrap();
    let event = rig.next_event().await;
    let next = tokio::time::timeout(Duration::from_secs(30), consumer.next()).await;
    let reply = Event::read(next.unwrap().unwrap().unwrap().into());
    assert_eq!(reply.body, event.body);
    rig.stop_worker().await;
    assert!(!rig.log().contains("a reply was dropped"), "{}", rig.log());
    rig.finish().await;
}

#[tokio::test]
async fn an_event_that_a_subscriber_refuses_waits_alone_and_is_told_again() {
    let mut rig = Rig::builder().stub().at_least_once().start().await;
    rig.broker.queue_of_one("test-full", "quorum", Some(("events", "eko.refund.#"))).await;
    rig.broker.fill("test-full").await;
    rig.stub().on_refund("701", [refunded("701")]);
    rig.publish(&refund("waits", "701")).await;
    let began = Instant::now();
    // A subscriber that has room gets it at once, and once more when it is told again.
    let first = rig.next_event().await;
    assert_eq!(first.told(), "succeeded response");
    for nth in 0..20 {
        rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
        let id = format!("other-{nth}");
        let other = rig.outcome_of(&transfer_otp(&id, &format!("REF-{nth}"))).await;
        assert_eq!(other.command_id(), id, "nothing else is repeated");
    }
    let refused = [("kind", "refund")];
    rig.until_metrics("what waits is counted", |metrics| {
        metrics.value("events_refused_waiting", &refused) == 1.0
    })
    .await;
    rig.broker.purge("test-full").await;
    let again = rig.next_event().await;
    assert_eq!(again.body, first.body);
    assert!(began.elapsed() >= Duration::from_secs(9), "told again after {:?}", began.elapsed());
    let taken = eventually("the subscriber has it", async || rig.broker.get("test-full").await);
    assert_eq!(taken.await.body, first.message.body);
    let metrics = rig.metrics().await;
    assert_eq!(metrics.value("events_refused_total", &refused), 1.0);
    assert_eq!(metrics.value("commands_total", &refused), 1.0);
    assert_eq!(metrics.value("replays_total", &refused), 0.0, "it is no duplicate");
    assert_eq!(rig.stub().requests(&stub::refund("701")).len(), 1);
    assert_eq!(sessions(&mut rig), 1, "no session ended");
    rig.broker.delete("test-full").await;
    rig.finish().await;
}

#[tokio::test]
async fn a_restart_forgets_no_event_that_was_refused() {
    let mut rig = Rig::builder().stub().at_least_once().start().await;
    rig.broker.queue_of_one("test-full", "classic", Some(("events", "eko.refund.#"))).await;
    rig.broker.put("test-full", b"the one that fits").await;
    rig.stub().on_refund("702", [refunded("702")]);
    let first = rig.outcome_of(&refund("waits", "702")).await;
    let waits = async || rig.broker.count("refused.refund.10000ms").await.filter(|&n| n == 1);
    eventually("its copy waits", waits).await;
    rig.stop_worker().await;
    rig.broker.purge("test-full").await;
    rig.start_worker().await;
    assert_eq!(rig.next_event().await.body, first.body);
    let taken = eventually("the subscriber has it", async || rig.broker.get("test-full").await);
    assert_eq!(taken.await.body, first.message.body);
    assert_eq!(rig.stub().requests(&stub::refund("702")).len(), 1);
    rig.broker.delete("test-full").await;
    rig.finish().await;
}

#[tokio::test]
async fn a_copy_whose_command_the_ledger_does_not_know_any_more_begins_nothing() {
    let mut rig = Rig::builder().stub().at_least_once().start().await;
    rig.broker.queue_of_one("test-full", "classic", Some(("events", "#"))).await;
    rig.broker.put("test-full", b"the one that fits").await;
    rig.stub().on_refund("703", [refunded("703")]);
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent(), transfer_otp_sent()]);
    rig.outcome_of(&refund("ended-refund", "703")).await;
    rig.outcome_of(&transfer_otp("ended-otp", "REF-703")).await;
    for queue in ["refused.refund.10000ms", "refused.transfer_otp.10000ms"] {
        let waits = async || rig.broker.count(queue).await.filter(|&n| n == 1);
        eventually("its copy waits", waits).await;
    }
    rig.stop_worker().await;
    let url = format!("sqlite://{}", rig.path("other.db").display());
    rig.settings.insert("LEDGER_URL".to_owned(), url);
    rig.settings.insert("LEDGER_ADOPT".to_owned(), "true".to_owned());
    rig.start_worker().await;
    let forgotten = async || {
        (rig.worker().log().matches("it is not published again").count() == 2).then_some(())
    };
    eventually("both copies are back", forgotten).await;
    assert_eq!(rig.stub().requests(&stub::refund("703")).len(), 1);
    assert_eq!(rig.stub().requests(TRANSFER_OTP).len(), 1);
    rig.broker.delete("test-full").await;
    rig.finish().await;
}

#[tokio::test]
async fn nobody_but_the_worker_says_that_an_event_is_not_owed() {
    let mut rig = Rig::builder().stub().at_least_once().start().await;
    rig.stub().on_refund("704", [refunded("704")]);
    let mut headers = FieldTable::default();
    headers.insert("eko-refused".into(), AMQPValue::LongString("dead letter".into()));
    let forged = BasicProperties::default().with_headers(headers);
    rig.publish_with(&refund("forged", "704"), forged.clone()).await;
    let first = rig.next_event().await;
    assert_eq!(first.told(), "succeeded response");
    rig.publish_with(&refund("forged", "704"), forged).await;
    assert_eq!(rig.next_event().await.body, first.body, "it may be the one that was never told");
    rig.finish().await;
}

#[tokio::test]
async fn dead_letters_that_are_refused_wait_and_the_event_is_told_once() {
    let node = own_node();
    let mut rig = Rig::builder().at(&node.url).stub().start().await;
    limit(&node, &rig.broker.name("dead"));
    let mut told = Vec::new();
    let refused = async |rig: &mut Rig| rig.worker().log().contains("refuses a command");
    while !refused(&mut rig).await {
        assert!(told.len() < 200, "the queue for dead letters takes all");
        rig.publish_raw(format!(r#"{{"id":"bad-{}"}}"#, told.len()).as_bytes()).await;
        told.push(rig.next_event().await);
    }
    node.ctl(&["clear_policy", "full"]);
    let mut dead = Vec::new();
    while dead.len() < told.len() {
        let letter = eventually("a dead letter", async || rig.broker.get("dead").await).await;
        dead.push(letter.header("eko-event-id").unwrap());
    }
    dead.sort_unstable();
    let mut told: Vec<_> = told.iter().map(|event| event.id().to_owned()).collect();
    told.sort_unstable();
    assert_eq!(dead, told, "each once");
    assert_eq!(sessions(&mut rig), 1, "no session ended");
    rig.finish().await;
}

#[tokio::test]
async fn a_queue_that_is_full_keeps_no_other_kind_from_coming_back() {
    let node = own_node();
    let rig = Rig::builder().at(&node.url).stub().patient().set("WORKER_CONCURRENCY", "1");
    let mut rig = rig.start().await;
    limit(&node, &rig.broker.name("refund_otp"));
    // Nobody takes anything out of it while Eko holds the only call that may be in flight.
    rig.stub().on(&stub::refund_otp("711"), [Answer::Held(Box::new(otp_sent("a")))]);
    let key = "eko.refund_otp.request";
    for nth in 0.. {
        assert!(nth < 200, "the queue takes all");
        let body = refund_otp(&format!("held-{nth}"), "711").to_string();
        if !rig.broker.is_taken(("commands", key), body.as_bytes()).await {
            break;
        }
    }
    rig.broker
        .put("retry.refund_otp.250ms", refund_otp("stuck", "711").to_string().as_bytes())
        .await;
    let gone = async || (rig.broker.count("retry.refund_otp.250ms").await == Some(0)).then_some(());
    eventually("a retry finds its queue full", gone).await;

    rig.stub().on(TRANSFER_OTP, [http(503), http(503), transfer_otp_sent()]);
    rig.publish(&transfer_otp("returns", "REF-1")).await;
    let began = Instant::now();
    assert_eq!(rig.next_event().await.told(), "succeeded response");
    assert!(began.elapsed() < Duration::from_secs(15), "after {:?}", began.elapsed());
}

#[tokio::test]
async fn an_event_that_a_queue_does_not_confirm_holds_up_no_other_kind() {
    let node = own_node();
    let mut rig = Rig::builder().at(&node.url).stub().at_least_once().start().await;
    rig.broker.queue_of_one("test-stuck", "quorum", Some(("events", "eko.refund.#"))).await;
    // Its one replica is there and takes nothing, as one that has lost its majority.
    let server = format!("'%2F_{}'", rig.broker.name("test-stuck"));
    let said = node.eval(&format!("sys:suspend({server})."));
    assert!(said.contains("ok"), "no such queue: {said}");
    rig.stub().on_refund("751", [refunded("751")]);
    assert_eq!(rig.outcome_of(&refund("stuck", "751")).await.told(), "succeeded response");
    let began = Instant::now();
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    for id in ["a", "b", "c"] {
        assert_eq!(rig.outcome_of(&transfer_otp(id, id)).await.command_id(), id);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "after {:?}", began.elapsed());
    rig.until_metrics("it is not waited for", |metrics| {
        metrics.value("events_refused_total", &[("kind", "refund")]) == 1.0
    })
    .await;
    let waits = async || rig.broker.count("refused.refund.10000ms").await.filter(|&n| n == 1);
    eventually("its copy waits", waits).await;
    assert_eq!(sessions(&mut rig), 1, "no session ended");
}

#[tokio::test]
async fn what_waits_comes_back_though_the_exchange_of_commands_is_gone_and_is_bound_again() {
    let mut rig = Rig::builder().stub().set("RETRY_INITIAL", "1s").start().await;
    let bank = said(544, 1, "Transaction not processed, bank not available");
    rig.stub().on(TRANSFER_OTP, [bank, transfer_otp_sent()]);
    rig.publish(&transfer_otp("waits", "REF-1")).await;
    let waits = async || rig.broker.count("retry.transfer_otp.1000ms").await.filter(|&n| n == 1);
    eventually("it waits", waits).await;
    rig.broker.delete_exchange("commands").await;
    assert_eq!(rig.next_event().await.told(), "succeeded response");

    // A publisher that declares its exchange again makes no bindings.
    rig.broker.declare_exchange("commands").await;
    let key = "eko.refund_otp.request";
    rig.stub().on(&stub::refund_otp("721"), [otp_sent("a")]);
    let body = refund_otp("bound-again", "721").to_string().into_bytes();
    let taken = async || rig.broker.is_taken(("commands", key), &body).await.then_some(());
    eventually("the worker binds its queues again", taken).await;
    assert_eq!(rig.next_event().await.command_id(), "bound-again");
    assert_eq!(sessions(&mut rig), 1, "no session ended");
    rig.finish().await;
}

#[tokio::test]
async fn what_lies_in_a_retry_queue_without_an_expiry_blocks_nothing() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on_refund("731", [refunded("731")]);
    let body = refund("foreign", "731").to_string();
    rig.broker.put("retry.refund.250ms", body.as_bytes()).await;
    assert_eq!(rig.next_event().await.command_id(), "foreign");
    rig.finish().await;
}
