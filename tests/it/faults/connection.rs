//! Faults of the way to the broker.

use super::pick;
use super::scene::Scene;
use crate::load::world::Setup;
use crate::rig::eventually;
use crate::rig::proxy::Proxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_cut_at_random_bytes() {
    let proxy = Proxy::open_to(&crate::rig::broker::Broker::url()).await;
    let setup = Setup::usual("fault-").await.set("AMQP_URL", &proxy.amqp_url());
    let mut scene = Scene::begin(106, "broker: connection cut at random bytes", setup).await;
    let times = pick(8, 50);
    scene.extent(format!("{times} ×"));
    scene.strike();
    for cut in 1..=times {
        // The names that the worker gives its connections; then any, in its handshake.
        match cut % 5 {
            0 => {
                proxy.cut_at_random("AMQP", 1_500);
                proxy.cut();
            }
            1 | 3 => proxy.cut_at_random("publishes", 20_000),
            _ => proxy.cut_at_random("consumes", 20_000),
        }
        let done = async || (proxy.cuts() >= cut).then_some(());
        eventually(&format!("connection {cut} is cut"), done).await;
    }
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confirms_never_come() {
    let proxy = Proxy::open_to(&crate::rig::broker::Broker::url()).await;
    let url = proxy.amqp_url();
    let setup = Setup::usual("fault-").await;
    let setup = setup.set("AMQP_URL", &pick(format!("{url}?heartbeat=1"), url));
    let mut scene = Scene::begin(107, "broker: confirms never come", setup).await;
    scene.strike();
    // The name that the worker gives its publishing connection.
    proxy.stall(Some("publishes"));
    scene.last(5_000, 40).await;
    proxy.stall(None);
    scene.relieve();
    scene.finish().await;
}
