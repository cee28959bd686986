//! One subscriber's queue that takes nothing, while others are read.

use std::time::Duration;

use lapin::BasicProperties;

use super::pick;
use super::scene::Scene;
use crate::load::world::Setup;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_are_wanted_in_a_queue_that_is_full() {
    let fault = "replies: their queue is full";
    let mut scene = Scene::begin(402, fault, Setup::usual("fault-").await).await;
    scene.of_one_cause(&[]).await;
    scene.world.broker.queue_of_one("full", "classic", None).await;
    scene.world.broker.put("full", b"the one that fits").await;
    let reply_to = scene.world.broker.name("full");
    let times = pick(9, 90);
    scene.extent(format!("{times} ×"));
    scene.strike();
    for _ in 0..times {
        let order = scene.flow.hold().await.draw_plain();
        let asking = BasicProperties::default().with_reply_to(reply_to.as_str().into());
        scene.world.publish_with(vec![order], asking).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    scene.until_beats(5).await;
    scene.world.broker.delete("full").await;
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscribers_queue_is_full() {
    let fault = "a subscriber's queue for refunds is full";
    let mut scene = Scene::begin(403, fault, Setup::usual("fault-").await).await;
    scene.of_one_cause(&["refund"]).await;
    scene.strike();
    scene.world.broker.queue_of_one("full", "classic", Some(("events", "eko.refund.#"))).await;
    scene.world.broker.put("full", b"the one that fits").await;
    // Not so long that an event is refused twice: it would wait for minutes then.
    scene.last(2_000, 8).await;
    scene.world.broker.delete("full").await;
    scene.relieve();
    scene.finish().await;
}
