//! A standby is promoted while the old primary lives on: two servers have the ledger's id.

use crate::load::store::Pair;
use crate::rig::command::refund;
use crate::rig::{Rig, eventually};

/// The workers of the old server stop once one of the new server has started, and go on once they have
/// reached that one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_workers_of_an_old_primary_that_lives_on_stop_consuming() {
    if std::env::var("EKO_TEST_POSTGRES_URL").is_err() {
        eprintln!("!!! SKIPPED: an old primary that lives on: no PostgreSQL");
        return;
    }
    let pair = Pair::start();
    let rig = Rig::builder().impatient().at_least_once().set("LEDGER_URL", &pair.url());
    let mut rig = rig.start().await;
    assert_eq!(rig.outcome_of(&refund("before", "6701")).await.told(), "succeeded response");
    let mut settings = rig.settings.clone();
    let mut other = rig.spawn_beside(&settings);
    other.ready().await;

    settings.insert("LEDGER_URL".to_owned(), pair.split().to_owned());
    let mut third = rig.spawn_beside(&settings);
    third.ready().await;
    let old = rig.settings.clone();
    for worker in [rig.worker(), &mut other] {
        let stops = async || {
            let (status, body) = worker.get("/readyz").await;
            (status == 503 && body.contains("timeline 1")).then_some(body)
        };
        let said = eventually("a worker of the old server stops", stops).await;
        for part in ["timeline 2", "LEDGER_URL", "127.0.0.1"] {
            assert!(said.contains(part), "{part} is not said: {said}");
        }
        assert_eq!(worker.metrics().await.sum("ledger_regressions_total", &[]), Some(1.0));
        let errors = worker.log();
        let errors = errors.lines().filter(|line| line.contains(r#""level":"ERROR""#)).count();
        assert_eq!(errors, 1, "it is said once:\n{}", worker.log());
    }
    let mut late = rig.spawn_beside(&old);
    assert_eq!(late.ready_or_ended().await, Some(2), "it consumes:\n{}", late.log());
    assert!(late.log().contains("timeline 2"), "{}", late.log());

    let mut forgot = async || third.metrics().await.sum("ledger_regressions_total", &[]);
    let mut is_cautious = async || (forgot().await == Some(1.0)).then_some(());
    eventually("the worker of the new server doubts what it does not know", &mut is_cautious).await;

    // Each by two messages.
    let twice = |id: &str, tid: u32| [refund(id, &tid.to_string()), refund(id, &tid.to_string())];
    let commands: Vec<_> = (0..10).flat_map(|nth| twice(&format!("x{nth}"), 6710 + nth)).collect();
    rig.publish_all(&commands).await;
    let ids: Vec<_> = (0..10).map(|nth| format!("x{nth}")).collect();
    let events = rig.events_of(ids.iter().map(String::as_str)).await;
    for (id, event) in &events {
        assert_eq!(event.outcome(), "succeeded", "{id}: {}", event.body);
    }
    for tid in 6710..6720 {
        assert_eq!(rig.simulator().executions(&tid.to_string()).await, 1, "{tid}");
    }

    pair.fence();
    rig.worker().ready().await;
    other.ready().await;
    // The second message of a command repeats its event, which may come now.
    rig.publish(&refund("after", "6702")).await;
    assert_eq!(rig.events_of(["after"]).await["after"].outcome(), "succeeded");
    rig.finish().await;
    drop((pair, other, third, late));
}
