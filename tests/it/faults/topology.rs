//! Queues that somebody takes away or makes otherwise.

use super::pick;
use super::scene::Scene;
use crate::load::world::Setup;
use crate::rig::broker::Broker;
use crate::rig::eventually;
use crate::rig::proxy::Proxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_deleted_and_its_consumer_cancelled() {
    let setup = Setup::usual("fault-").await;
    let mut scene = Scene::begin(108, "queue deleted under its consumer", setup).await;
    let times = pick(1, 5);
    scene.extent(format!("{times} ×"));
    for _ in 0..times {
        let held = scene.flow.hold().await;
        // What was in the queue would be lost with it, by whoever deletes it.
        scene.until_idle(&held).await;
        scene.strike();
        scene.world.broker.delete("refund").await;
        drop(held);
        let again = async || scene.world.broker.count("refund").await;
        eventually("the worker declares its queue again", again).await;
        scene.relieve();
        scene.until_beats(5).await;
    }
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_is_recreated_at_once_under_its_consumer() {
    let setup = Setup::usual("fault-").await;
    let mut scene = Scene::begin(110, "queue deleted and recreated at once", setup).await;
    let held = scene.flow.hold().await;
    scene.until_idle(&held).await;
    scene.strike();
    // RabbitMQ 3.10 then tells the consumer nothing, and delivers nothing to it either.
    scene.world.broker.delete("refund").await;
    scene.world.broker.declare_as_wanted("refund").await;
    scene.relieve();
    drop(held);
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_has_other_arguments_for_a_while() {
    let mut proxy = Proxy::open_to(&Broker::url()).await;
    let setup = Setup::usual("fault-").await.set("AMQP_URL", &proxy.amqp_url());
    let mut scene = Scene::begin(109, "queue with other arguments", setup).await;
    let held = scene.flow.hold().await;
    scene.until_idle(&held).await;
    scene.strike();
    // While the worker is away, or it would be quicker to declare its queue as it should be.
    proxy.close().await;
    scene.world.broker.delete("refund").await;
    scene.world.broker.declare_otherwise("refund").await;
    proxy.open().await;
    drop(held);
    scene.last(4_000, 15).await;
    let running = scene.world.workers[0].process.is_running();
    assert!(running, "a worker that consumed does not end:\n{}", scene.world.workers[0].log());
    // Whoever repairs it moves what came meanwhile, or it would be lost with the queue.
    let held = scene.flow.hold().await;
    let mut moved = Vec::new();
    while let Some(message) = scene.world.broker.get("refund").await {
        moved.push((message.routing_key, message.body));
    }
    assert!(!moved.is_empty(), "refunds wait in a queue that the worker does not want");
    scene.world.broker.delete("refund").await;
    scene.relieve();
    scene.until_working().await;
    scene.world.publish(moved).await;
    drop(held);
    scene.finish().await;
}
