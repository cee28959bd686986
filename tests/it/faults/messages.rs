//! One publisher's messages, while others publish good commands.

use std::time::Duration;

use serde_json::json;

use super::pick;
use super::scene::Scene;
use crate::load::world::Setup;
use crate::rig::command::{Edit, refund, transfer_otp};
use crate::rig::eventually;
use crate::rig::proxy::Proxy;
use crate::rig::raw::{CORRELATION_ID, HEADERS, RawPublisher, header, long, nested};

/// Between two of them.
const PAUSE: Duration = Duration::from_millis(250);

/// What the worker may need at the most, in MiB.
const MOST_MEMORY: u64 = 100;

/// Publishes refunds with these properties, some a second.
async fn properties(order: u32, fault: &'static str, (flags, bytes): (u16, Vec<u8>)) {
    let mut scene = Scene::begin(order, fault, Setup::usual("fault-").await).await;
    scene.of_one_cause(&["refund"]).await;
    let times = pick(5, 100);
    scene.extent(format!("{times} ×"));
    let exchange = scene.world.broker.name("commands");
    let mut raw = RawPublisher::connect();
    scene.strike();
    for nth in 0..times {
        let body = scene.flow.hold().await.add_invalid(&refund(&format!("odd-{nth}"), "1"));
        raw.publish((&exchange, "eko.refund.request"), (flags, &bytes), &body);
        tokio::time::sleep(PAUSE).await;
    }
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_property_is_not_utf_8() {
    let bytes = b"\x04\xff\xfe\x80\x81".to_vec();
    properties(401, "messages: correlation_id is not UTF-8", (CORRELATION_ID, bytes)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_too_large_to_be_published_again() {
    let bytes = long(&header("baggage", &[b'x'; 130_990]));
    properties(404, "messages: headers of 130,990 bytes", (HEADERS, bytes)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_nested_deeply() {
    let bytes = long(&nested(5_000));
    properties(405, "messages: a header of 5,000 nested arrays", (HEADERS, bytes)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_4_mib_are_published() {
    let mut scene = Scene::begin(406, "messages: of 4 MiB", Setup::usual("fault-").await).await;
    scene.of_one_cause(&["refund"]).await;
    let times = pick(12, 60);
    scene.strike();
    for nth in 0..times {
        let body = format!("{nth}{}", "x".repeat(4 << 20)).into_bytes();
        scene.flow.hold().await.nameless.insert(body.clone());
        scene.world.publish(vec![("eko.refund.request".to_owned(), body)]).await;
    }
    scene.until_beats(10).await;
    let peak = scene.world.workers[0].process.peak();
    assert!(peak <= MOST_MEMORY, "{peak} MiB");
    scene.extent(format!("{times} ×; the worker had {peak} MiB at the most"));
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_costs_whoever_consumes_it_the_connection() {
    const KIND: &[&str] = &["transfer_otp"];
    let mut proxy = Proxy::closed().await;
    proxy.open().await;
    proxy.poison("POISONED");
    let setup = Setup::usual("fault-").await.set("AMQP_URL", &proxy.amqp_url());
    let fault = "messages: whoever gets one loses the connection";
    let mut scene = Scene::begin(407, fault, setup).await;
    scene.of_one_cause(KIND).await;
    let times = pick(1, 5);
    scene.extent(format!("{times} ×"));
    scene.strike();
    for nth in 0..times {
        let poisoned = transfer_otp(&format!("poisoned-{nth}"), &format!("P-{nth}"));
        let body = poisoned.with("/data/extra", json!("POISONED")).to_string().into_bytes();
        scene.world.publish(vec![("eko.transfer_otp.request".to_owned(), body.clone())]).await;
        // The broker gives it up: it is in no account, since no worker has ever read it.
        let dead = async || scene.world.broker.get("dead").await;
        assert!(eventually("the broker gives it up", dead).await.body == body);
    }
    scene.relieve();
    scene.finish().await;
    drop(proxy);
}
