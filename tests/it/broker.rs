//! What the broker does to a worker: takes nothing for a while, ends connections and consumers,
//! has other queues than expected, or lets it do less than everything.

mod node;

use tempfile::TempDir;

use crate::rig::command::transfer_otp;
use crate::rig::metrics::Metrics;
use crate::rig::script::transfer_otp_sent;
use crate::rig::stub::{Answer, TRANSFER_OTP};
use crate::rig::{COMMAND_QUEUES, Rig, eventually};
use node::Node;

/// How often the worker built a session: one line each.
fn sessions(rig: &mut Rig) -> usize {
    rig.worker().log().matches("connected to the broker; consuming").count()
}

fn is_paused(metrics: &Metrics, kind: &str, reason: &str) -> bool {
    metrics.value("paused", &[("kind", kind), ("reason", reason)]) == 1.0
}

/// A node that ends before its directory goes.
fn own_node(environment: Vec<(&'static str, String)>) -> (Node, TempDir) {
    let dir = tempfile::Builder::new().prefix("it-node-").tempdir().unwrap();
    (Node::start(dir.path().join("node"), environment), dir)
}

#[tokio::test]
async fn a_broker_short_of_memory_pauses_every_kind_until_it_is_not() {
    let (node, _dir) = own_node(Vec::new());
    let rig = Rig::builder().at(&node.url).stub().set("WORKER_CONCURRENCY", "1");
    let mut rig = rig.start().await;
    let held = Answer::Held(Box::new(transfer_otp_sent()));
    rig.stub().on(TRANSFER_OTP, [held, transfer_otp_sent()]);
    rig.publish_all(&["a", "b", "c"].map(|id| transfer_otp(id, &format!("REF-{id}")))).await;
    let called = async || (rig.stub().all_requests().len() == 1).then_some(());
    eventually("the first call is in flight", called).await;

    node.be_short_of_memory(true);
    rig.stub().release();
    for kind in COMMAND_QUEUES {
        rig.until_metrics("every kind is paused", |now| is_paused(now, kind, "broker_blocked"))
            .await;
    }
    let (status, body) = rig.worker().get("/readyz").await;
    assert_eq!(status, 200, "a pause is no fault of the worker's: {body}");
    assert!(body.contains(r#""transfer_otp":"broker_blocked""#), "{body}");
    let waiting = async || (rig.broker.count("transfer_otp").await == Some(2)).then_some(());
    eventually("what has not begun is back in the queue", waiting).await;
    assert_eq!(rig.stub().all_requests().len(), 1, "nothing new was begun");
    assert_eq!(rig.worker().metrics().await.value("broker_connected", &[]), 1.0);

    node.be_short_of_memory(false);
    let events = rig.events_of(["a", "b", "c"]).await;
    assert!(events.values().all(|event| event.told() == "succeeded response"));
    for kind in COMMAND_QUEUES {
        rig.until_metrics("it goes on", |now| !is_paused(now, kind, "broker_blocked")).await;
    }
    assert_eq!(rig.stub().all_requests().len(), 3, "each was called for once");
    assert_eq!(sessions(&mut rig), 1, "the connections outlived it");
    rig.finish().await;
}

#[tokio::test]
async fn a_worker_that_starts_while_memory_is_short_calls_for_nothing() {
    let (node, _dir) = own_node(Vec::new());
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
    node.be_short_of_memory(false);
    assert_eq!(rig.events_of(["a"]).await["a"].told(), "succeeded response");
    rig.finish().await;
}

#[tokio::test]
async fn a_connection_that_ends_while_idle_is_noticed_at_once() {
    let (node, _dir) = own_node(Vec::new());
    let mut rig = Rig::builder().at(&node.url).at_least_once().stub().start().await;
    rig.stub().on(TRANSFER_OTP, [transfer_otp_sent()]);
    let end = |what: &str| {
        let name = format!("eko-worker {} {what}", rig.settings["AMQP_PREFIX"]);
        format!(
            "[rabbit_networking:close_connection(P, \"a test\") || C <- rabbit_networking:connections(), \
             [{{pid, P}}, {{client_properties, L}}] <- [rabbit_networking:connection_info(C, [pid, client_properties])], \
             {{<<\"connection_name\">>, longstr, <<\"{name}\">>}} <- L]."
        )
    };
    let (publishes, consumes) = (end("publishes"), end("consumes"));
    for (ends, expression) in [(1, &publishes), (2, &consumes), (3, &publishes)] {
        let said = node.ctl(&["eval", expression]);
        assert!(said.contains("ok"), "no such connection: {said}");
        let again = async || (sessions(&mut rig) == ends + 1).then_some(());
        eventually("it has built everything anew", again).await;
        rig.worker().ready().await;
    }
    rig.publish(&transfer_otp("a", "REF-A")).await;
    assert_eq!(rig.events_of(["a"]).await["a"].told(), "succeeded response");
    rig.finish().await;
}
