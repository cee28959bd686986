//! Names that have several addresses, of which the first do not answer.

use std::time::Duration;

use tempfile::TempDir;
use tokio::net::TcpListener;
use url::Url;

use crate::faults::in_own_mounts;
use crate::rig::command::refund;
use crate::rig::proxy::Proxy;
use crate::rig::script::refunded;
use crate::rig::{Rig, eventually};

const NAME: &str = "rabbit.test";

/// What runs the worker with a name for both loopback addresses; `::1` is the one that is tried first.
fn with_two_addresses(dir: &TempDir) -> Option<Vec<String>> {
    let hosts = dir.path().join("hosts");
    let lines = format!("127.0.0.1 localhost {NAME}\n::1 {NAME}\n");
    std::fs::write(&hosts, lines).unwrap();
    in_own_mounts(&format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display()))
}

#[tokio::test]
async fn a_broker_whose_first_address_is_silent_is_reached_at_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let Some(wrapper) = with_two_addresses(&dir) else {
        eprintln!("SKIPPED, no mounts of its own for the worker (unshare -m, as root)");
        return;
    };
    let mut rig = Rig::builder().stub().start_without_worker().await;
    let proxy = Proxy::open_to(&rig.settings["AMQP_URL"]).await;
    // It takes connections, and never says a word.
    let silent = TcpListener::bind(("::1", proxy.port())).await.unwrap();
    let mut url = Url::parse(&proxy.amqp_url()).unwrap();
    url.set_host(Some(NAME)).unwrap();
    rig.settings.insert("AMQP_URL".to_owned(), url.to_string());
    rig.settings.insert("AMQP_ALLOW_PLAINTEXT".to_owned(), "true".to_owned());
    rig.spawn_worker_in(&wrapper);
    let (asked, _) = eventually("the silent one is asked first", async || {
        tokio::time::timeout(Duration::from_millis(10), silent.accept()).await.ok()
    })
    .await
    .unwrap();
    rig.worker().ready().await;
    rig.stub().on_refund("781", [refunded("781")]);
    assert_eq!(rig.outcome_of(&refund("reached", "781")).await.told(), "succeeded response");
    drop(asked);
    rig.stop_worker().await;
    rig.finish().await;
}
