//! One message is never everybody's problem, however it is made.

mod random;

use std::time::{Duration, Instant};

use lapin::BasicProperties;
use serde_json::{Value, json};

use crate::rig::broker::{Broker, Message};
use crate::rig::command::{Edit, refund, refund_otp, transfer_otp};
use crate::rig::event::Event;
use crate::rig::metrics::Metrics;
use crate::rig::proxy::Proxy;
use crate::rig::raw::{CORRELATION_ID, HEADERS, RawPublisher, header, long, nested};
use crate::rig::script::{found, refunded, transfer_otp_sent};
use crate::rig::stub::{Answer, TRANSFER_OTP};
use crate::rig::worker::Worker;
use crate::rig::{Rig, eventually};

/// How often the worker has connected.
fn sessions(rig: &Rig) -> usize {
    rig.log().matches("connected to the broker; consuming").count()
}

/// Properties that no command should have, and what is told of them.
fn odd() -> Vec<(u16, Vec<u8>, &'static str)> {
    let in_table = |entries: &[u8]| long(entries);
    vec![
        (CORRELATION_ID, b"\x04\xff\xfe\x80\x81".to_vec(), "correlation_id is not UTF-8"),
        (0x0200, b"\x02\xc3\x28".to_vec(), "reply_to is not UTF-8"),
        (0x0008, b"\x02\xff\xff".to_vec(), "app_id is not UTF-8"),
        (
            HEADERS,
            in_table(&[b"\x02\xff\xfe", &header("", b"x")[1..]].concat()),
            "1 of the headers",
        ),
        (HEADERS, in_table(&nested(5_000)), "1 of the headers"),
        (HEADERS, in_table(&nested(20_000)), "1 of the headers"),
        (HEADERS, in_table(&header("baggage", &[b'x'; 130_700])), "at most 126976"),
        (HEADERS, in_table(&header("baggage", &[b'x'; 130_990])), "at most 126976"),
    ]
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_told_and_set_aside_alone() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on(TRANSFER_OTP, vec![transfer_otp_sent(); 8]);
    let exchange = rig.broker.name("commands");
    let mut raw = RawPublisher::connect();
    let cases = odd();
    for (n, (flags, properties, names)) in cases.iter().enumerate() {
        let command = refund(&format!("odd-{n}"), "1").to_string().into_bytes();
        let began = Instant::now();
        raw.publish((&exchange, "eko.refund.request"), (*flags, properties), &command);
        let event = rig.next_event().await;
        assert_eq!((event.outcome(), event.code()), ("invalid", "invalid_command"));
        assert_eq!(event.command_id(), format!("odd-{n}"), "the body's id can be read");
        let message = event.text("/data/error/message");
        assert!(message.contains(names), "{message}");
        let dead = rig.dead_letter(&event).await;
        assert!(dead.body == command, "byte for byte");
        assert!(dead.header("eko-unread").is_some_and(|why| why.contains(names)));
        let id = format!("fine-{n}");
        let fine = rig.outcome_of(&transfer_otp(&id, &id)).await;
        assert_eq!(fine.told(), "succeeded response");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    assert!(rig.stub().all_requests().len() == cases.len(), "no refund was called for");
    let metrics = rig.metrics().await;
    let count = f64::from(u8::try_from(cases.len()).unwrap());
    assert_eq!(metrics.value("messages_unreadable_total", &[("kind", "refund")]), count);
    assert_eq!(metrics.value("consumers_lost_total", &[]), 0.0);
    assert_eq!(sessions(&rig), 1);
    rig.finish().await;
}

#[tokio::test]
async fn what_cannot_be_read_does_not_outrank_a_refund_that_was_begun() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stub().on_inquiry("78", [found("78", 3)]);
    rig.stub().on_refund("78", [refunded("78")]);
    let command = refund("begun", "78");
    let event = rig.outcome_of(&command).await;
    assert_eq!(event.told(), "succeeded response");
    let (exchange, body) = (rig.broker.name("commands"), command.to_string().into_bytes());
    let mut raw = RawPublisher::connect();
    let properties = (CORRELATION_ID, &b"\x01\xff"[..]);
    raw.publish((&exchange, "eko.refund.request"), properties, &body);
    let again = rig.next_event().await;
    assert_eq!(again.outcome(), "invalid");
    assert_ne!(again.id(), event.id(), "the refund's own end stands");
    rig.dead_letter(&again).await;
    rig.finish().await;
}

#[tokio::test]
async fn what_waits_for_its_turn_does_not_wait_behind_itself_once_its_connection_is_lost() {
    let mut proxy = Proxy::closed().await;
    proxy.open().await;
    let rig = Rig::builder().set("AMQP_URL", &proxy.amqp_url()).set("WORKER_RATE_LIMIT", "3");
    let mut rig = rig.at_least_once().stub().start().await;
    let ids: Vec<_> = (0..32).map(|n| format!("turn-{n}")).collect();
    rig.stub().on(TRANSFER_OTP, vec![transfer_otp_sent(); 40]);
    rig.publish_all(&ids.iter().map(|id| transfer_otp(id, id)).collect::<Vec<_>>()).await;
    let in_hand = |now: &Metrics| now.value("in_flight", &[("kind", "transfer_otp")]);
    rig.until_metrics("they wait for their turn", |now| in_hand(now) > 25.0).await;
    proxy.cut();
    eventually("it has connected again", async || (sessions(&rig) > 1).then_some(())).await;
    let told = |now: &Metrics| now.value("event_publish_duration_seconds_count", &[]);
    let (asked, before) = (rig.stub().all_requests().len(), told(&rig.metrics().await));
    let more = async || (rig.stub().all_requests().len() >= asked + 8).then_some(());
    eventually("Eko is called again", more).await;
    // Those whose connection is gone could be called for, and not be told.
    assert!(told(&rig.metrics().await) >= before + 4.0);
    rig.events_of(ids.iter().map(String::as_str)).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_message_over_which_consumers_are_lost_is_given_up_alone() {
    let mut proxy = Proxy::closed().await;
    proxy.open().await;
    proxy.poison("POISONED");
    let rig = Rig::builder().set("AMQP_URL", &proxy.amqp_url()).at_least_once().stub();
    let mut rig = rig.start().await;
    rig.stub().on(TRANSFER_OTP, vec![transfer_otp_sent(); 200]);
    let poisoned = transfer_otp("poisoned", "P").with("/data/extra", json!("POISONED"));
    let otps = |n: std::ops::Range<u32>| {
        n.map(|n| transfer_otp(&format!("a-{n}"), &format!("a-{n}"))).collect::<Vec<_>>()
    };
    rig.stub().on_refund("611", [refunded("611")]);
    let began = Instant::now();
    rig.publish_all(&[otps(0..10), vec![poisoned], otps(10..60)].concat()).await;
    rig.publish(&refund("b", "611")).await;
    let ids: Vec<_> = (0..60).map(|n| format!("a-{n}")).chain(["b".to_owned()]).collect();
    rig.events_of(ids.iter().map(String::as_str)).await;
    let took = began.elapsed();
    let dead = rig.any_dead_letter().await;
    assert_eq!(death(&dead), "delivery_limit");
    let metrics = rig.metrics().await;
    eprintln!("{took:?}, {} consumers", metrics.value("consumers_lost_total", &[]));
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(metrics.value("dead_lettered_total", &[]), 0.0, "no innocent one");
    let lost = |kind| metrics.value("consumers_lost_total", &[("kind", kind)]);
    assert!(lost("transfer_otp") >= 20.0);
    assert_eq!((lost("refund"), lost("refund_otp")), (0.0, 0.0));
    assert_eq!(sessions(&rig), 1);
    rig.finish().await;
}

/// Why the broker gave a message up.
fn death(dead: &Message) -> String {
    let headers = serde_json::to_value(dead.properties.headers()).unwrap();
    let reason = headers.to_string();
    let reasons = ["delivery_limit", "rejected"];
    let is_it = |of: &&&str| {
        let bytes = serde_json::to_string(of.as_bytes()).unwrap();
        reason.contains(**of) || reason.contains(&bytes)
    };
    reasons.iter().find(is_it).map_or_else(|| reason.clone(), ToString::to_string)
}

/// How many messages of 4 MiB wait when the worker starts.
const LARGE: u32 = 36;

#[tokio::test]
async fn large_messages_are_in_hand_one_after_the_other() {
    let mut rig = Rig::builder().stub().start().await;
    rig.stop_worker().await;
    let body = |n: u32| format!("{n}{}", "x".repeat(4 << 20)).into_bytes();
    for n in 0..LARGE {
        let key = ["eko.refund.request", "eko.refund_otp.request", "eko.transfer_otp.request"];
        let key = key[usize::try_from(n).unwrap() % 3];
        rig.broker.command(key, body(n), BasicProperties::default()).await;
    }
    rig.start_worker().await;
    for _ in 0..LARGE {
        let event = rig.next_event().await;
        assert_eq!(event.outcome(), "invalid");
    }
    let after = rig.worker().process.peak();
    assert!(after <= 100, "{after} MiB");
    let all = async || (rig.broker.count("dead").await == Some(LARGE)).then_some(());
    eventually("all are kept", all).await;
    rig.broker.purge("dead").await;
    rig.finish().await;
}

#[tokio::test]
async fn bodies_wait_for_room_and_no_connection_is_lost_meanwhile() {
    let url = format!("{}?heartbeat=2", Broker::url());
    let settings = Rig::builder().set("AMQP_URL", &url).set("WORKER_BUFFER", "1MiB");
    let mut rig = settings
        .set("EKO_TIMEOUT", "30s")
        .set("EKO_STAMP_TOLERANCE", "1m")
        .set("SETTLE_QUIET", "30s")
        .stub()
        .start()
        .await;
    rig.stub().on(TRANSFER_OTP, vec![Answer::Held(Box::new(transfer_otp_sent())); 128]);
    let padding = json!("x".repeat(60_000));
    let large = |n: u32| {
        transfer_otp(&format!("a-{n}"), &format!("a-{n}")).with("/padding", padding.clone())
    };
    let commands: Vec<_> = (0..128).map(large).collect();
    rig.publish_all(&commands).await;
    let held = |now: &Metrics| now.value("in_flight", &[("kind", "transfer_otp")]) == 5.0;
    rig.until_metrics("there is room for five", held).await;
    // Longer than lapin waits for a word of the node.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(held(&rig.worker().metrics().await), "five of 60 KB in a third of 1 MiB");
    let ids: Vec<_> = (0..128).map(|n| format!("a-{n}")).collect();
    rig.stub().release();
    rig.events_of(ids.iter().map(String::as_str)).await;
    assert_eq!(rig.metrics().await.value("consumers_lost_total", &[]), 0.0);
    assert_eq!(sessions(&rig), 1);
    rig.finish().await;
}

#[tokio::test]
async fn what_comes_while_a_consumer_is_registered_anew_is_begun_though_others_wait_for_room() {
    /// The method `basic.cancel`.
    const CANCEL: &str = "\0\x3c\0\x1e";
    let consumes = "consumes transfer_otp";
    let mut proxy = Proxy::closed().await;
    proxy.open().await;
    // The node would miss heartbeats that are held.
    let url = format!("{}?heartbeat=120", proxy.amqp_url());
    let settings = Rig::builder().set("AMQP_URL", &url).set("WORKER_BUFFER", "1MiB");
    let mut rig = settings.stub().at_least_once().start().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    // The consumer is idle for half a minute then.
    proxy.hold(Some(consumes));
    let cancelled = tokio::time::timeout(Duration::from_secs(90), proxy.until_held(CANCEL));
    cancelled.await.expect("an idle consumer is registered anew");
    let padding = json!("x".repeat(60_000));
    let ids: Vec<_> = (0..60).map(|n| format!("anew-{n}")).collect();
    let large = |id: &String| transfer_otp(id, id).with("/padding", padding.clone());
    rig.publish_all(&ids.iter().map(large).collect::<Vec<_>>()).await;
    // More than there is room for comes before the broker is told to deliver no more.
    let comes = async || rig.broker.count("transfer_otp").await.filter(|&left| left < 50);
    eventually("the broker delivers as many as may be in hand", comes).await;
    proxy.hold(None);
    rig.events_of(ids.iter().map(String::as_str)).await;
    assert_eq!(rig.metrics().await.value("consumers_lost_total", &[]), 0.0);
    rig.finish().await;
}

#[tokio::test]
async fn a_body_beyond_the_buffer_is_told_and_kept_whole_by_the_broker() {
    let mut rig = Rig::builder().set("WORKER_BUFFER", "1MiB").stub().start().await;
    let bodies =
        ["x", "y"].map(|text| refund(text, "1").with("/data/x", json!(text.repeat(400_000))));
    let mut ids = Vec::new();
    for body in &bodies {
        rig.publish(body).await;
        let event = rig.next_event().await;
        assert_eq!(event.outcome(), "invalid");
        let message = event.text("/data/error/message");
        assert!(message.contains("at most 349525"), "{message}");
        assert!(!ids.contains(&event.id().to_owned()), "each has an id of its own");
        ids.push(event.id().to_owned());
        let dead = rig.any_dead_letter().await;
        assert!(dead.body == body.to_string().into_bytes());
        assert_eq!(death(&dead), "rejected");
    }
    // The same bytes again are the same message.
    rig.publish(&bodies[0]).await;
    let again: Event = rig.next_event().await;
    assert_eq!(again.id(), ids[0]);
    rig.any_dead_letter().await;
    let size = format!("\"bytes\":{},", bodies[0].to_string().len());
    assert!(rig.log().contains(&size), "the size that was sent is told: {}", rig.log());
    rig.finish().await;
}

/// The dead letters, as an operator sees them.
async fn listed(rig: &Rig) -> Value {
    let (code, out, said) = Worker::output(&["dead", "list", "--json"], &rig.settings).await;
    assert_eq!(code, 0, "{said}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test]
async fn looking_at_dead_letters_takes_none_away() {
    let mut rig = Rig::builder().stub().start_without_worker().await;
    // As the worker declares it: with another limit, or none, it would not start.
    rig.broker.declare_kept("dead", 1_000_000).await;
    rig.broker.declare_kept("unrouted", 1_000_000).await;
    rig.start_worker().await;
    rig.publish_raw(b"not json").await;
    let event = rig.next_event().await;
    for _ in 0..3 {
        let listed = listed(&rig).await;
        assert_eq!(listed[0]["event_id"], event.id());
    }
    rig.dead_letter(&event).await;
    rig.finish().await;
}

#[tokio::test]
async fn dead_letters_that_no_library_reads_are_listed_all_the_same() {
    let rig = Rig::builder().stub().start().await;
    let exchange = rig.broker.name("dead");
    let mut raw = RawPublisher::connect();
    let body = refund_otp("left", "1").to_string().into_bytes();
    raw.publish((&exchange, "k"), (CORRELATION_ID, b"\x02\xff\xfe"), &body);
    raw.publish((&exchange, "k"), (HEADERS, &long(&nested(20_000))), &body);
    let listed = listed(&rig).await;
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    assert_eq!(listed[0]["command_id"], "left");
    rig.broker.purge("dead").await;
    rig.finish().await;
}
