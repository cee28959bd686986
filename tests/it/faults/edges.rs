//! Faults at the edges of the worker's process: its log and its admin port.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::pick;
use super::scene::Scene;
use crate::load::world::Setup;

/// Has the worker log a line, by a request that is none.
fn have_logged(admin: &str) {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.write_all(b"\x01\r\n\r\n").ok();
    stream.read_to_end(&mut Vec::new()).ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reads_the_log() {
    let setup = Setup::usual("fault-").await.set("RUST_LOG", "info,eko=debug,lapin=off");
    let mut scene = Scene::begin(410, "log: nobody reads standard error", setup).await;
    scene.of_one_cause(&[]).await;
    let admin = scene.world.workers[0].address().await;
    let stderr = scene.world.workers[0].process.stderr.clone();
    // More than were kept before whoever logs had to wait; in the long form more than are kept.
    let lines = pick(5_000, 30_000);
    scene.strike();
    stderr.hold(true);
    let logging = move || (0..lines).for_each(|_| have_logged(&admin));
    tokio::task::spawn_blocking(logging).await.unwrap();
    scene.until_beats(20).await;
    scene.extent(format!("{lines} lines"));
    stderr.hold(false);
    scene.relieve();
    scene.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_port_is_held_open() {
    let wrapper = ["sh", "-c", "ulimit -n 256; exec \"$@\"", "sh"].map(str::to_owned).to_vec();
    let setup = Setup { wrapper, ..Setup::usual("fault-").await };
    let fault = "admin port: 400 half-open connections, 256 file descriptors";
    let mut scene = Scene::begin(411, fault, setup).await;
    scene.of_one_cause(&[]).await;
    let admin = scene.world.workers[0].address().await;
    scene.strike();
    let held: Vec<_> = (0..400)
        .map(|_| {
            let mut stream = TcpStream::connect(&admin).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x").ok();
            stream
        })
        .collect();
    scene.last(3_000, 30).await;
    scene.until_beats(20).await;
    drop(held);
    scene.relieve();
    scene.finish().await;
}
