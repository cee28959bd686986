//! A retry queue that does not answer, or is gone, holds up others for a moment at most.

use std::time::{Duration, Instant};

use super::{LEVELS, do_to_servers, own_node, queue, waits_for_an_hour};
use crate::rig::command::{refund_otp, transfer_otp};
use crate::rig::metrics::Metrics;
use crate::rig::script::{otp_sent, said, transfer_otp_sent};
use crate::rig::stub::{self, TRANSFER_OTP};
use crate::rig::{Rig, eventually};

/// How long the others of the same kind may have to wait for their event, and those of another one.
const GOALS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(1)];

/// A steady flow of commands of two kinds, one after the other.
struct Flow {
    published: usize,
    /// The longest time from a command to its event: in the kind whose queues ail, and in another one.
    longest: [Duration; 2],
}

impl Flow {
    fn new(rig: &Rig) -> Self {
        rig.stub().on(&stub::refund_otp("781"), [otp_sent("a")]);
        Self { published: 0, longest: [Duration::ZERO; 2] }
    }

    /// Goes on until that holds of the worker's metrics.
    async fn until(&mut self, rig: &mut Rig, holds: impl Fn(&Metrics) -> bool) {
        let began = Instant::now();
        while !holds(&rig.worker().metrics().await) {
            assert!(began.elapsed() < Duration::from_secs(120), "it does not come true");
            self.one_of_each(rig).await;
        }
    }

    async fn one_of_each(&mut self, rig: &mut Rig) {
        self.published += 1;
        let ids = ["same", "other"].map(|kind| format!("{kind}-{}", self.published));
        let published = Instant::now();
        rig.publish_all(&[transfer_otp(&ids[0], &ids[0]), refund_otp(&ids[1], "781")]).await;
        for _ in &ids {
            let event = rig.next_event().await;
            let kind = ids.iter().position(|id| id == event.command_id());
            let kind = kind.unwrap_or_else(|| panic!("not awaited: {}", event.body));
            self.longest[kind] = self.longest[kind].max(published.elapsed());
        }
    }

    fn assert_goals(&self) {
        eprintln!("longest waits (same kind, another kind): {:?}", self.longest);
        let is_met = self.longest.iter().zip(GOALS).all(|(longest, goal)| *longest < goal);
        assert!(is_met, "{:?} of {} each", self.longest, self.published);
    }
}

fn refused(now: &Metrics, level: u32) -> f64 {
    now.value("parking_refused_total", &[("kind", "transfer_otp"), ("queue", &queue(level))])
}

/// Commands that must wait, for which Eko was called.
async fn that_wait(rig: &Rig, ids: &[&str]) {
    let bank = said(544, 1, "Transaction not processed, bank not available");
    let answers = std::iter::repeat_n(bank, ids.len()).chain([transfer_otp_sent()]);
    rig.stub().on(TRANSFER_OTP, answers);
    let before = rig.stub().requests(TRANSFER_OTP).len();
    rig.publish_all(&ids.iter().map(|id| transfer_otp(id, id)).collect::<Vec<_>>()).await;
    let called =
        async || (rig.stub().requests(TRANSFER_OTP).len() >= before + ids.len()).then_some(());
    eventually("Eko was called for them", called).await;
}

async fn until_in(rig: &Rig, level: u32, count: u32) {
    let queue = queue(level);
    let waits = async || rig.broker.count(&queue).await.filter(|&there| there == count);
    eventually("they wait in the next queue", waits).await;
}

#[tokio::test]
async fn a_retry_queue_that_does_not_confirm_holds_up_the_first_command_alone() {
    let node = own_node();
    let mut rig = waits_for_an_hour(&node).start().await;
    let mut flow = Flow::new(&rig);
    do_to_servers(&node, &rig, ("suspend", &LEVELS[..1]));
    that_wait(&rig, &["first"]).await;
    let began = Instant::now();
    flow.until(&mut rig, |_| began.elapsed() > Duration::from_secs(3)).await;
    // It has been silent for a while: the next one does not ask it.
    that_wait(&rig, &["second"]).await;
    until_in(&rig, LEVELS[1], 1).await;
    assert!(began.elapsed() < Duration::from_secs(8), "after {:?}", began.elapsed());
    flow.until(&mut rig, |now| refused(now, LEVELS[0]) > 0.0).await;
    until_in(&rig, LEVELS[1], 2).await;
    flow.assert_goals();
    assert_eq!(refused(&rig.metrics().await, LEVELS[0]), 1.0);
}

#[tokio::test]
async fn retry_queues_that_do_not_confirm_hold_up_their_kind_for_moments() {
    let node = own_node();
    let mut rig = waits_for_an_hour(&node).start().await;
    let mut flow = Flow::new(&rig);
    do_to_servers(&node, &rig, ("suspend", &LEVELS));
    that_wait(&rig, &["a", "b", "c", "d", "e"]).await;
    flow.until(&mut rig, |now| LEVELS.iter().all(|&level| refused(now, level) > 0.0)).await;
    flow.assert_goals();
}

#[tokio::test]
async fn a_retry_queue_that_was_deleted_is_passed_over_and_declared_again() {
    let mut rig = Rig::builder().stub().set("RETRY_INITIAL", "1h").set("RETRY_MAX", "1h");
    rig = rig.set("RETRY_GIVE_UP_OTP", "24h");
    let mut rig = rig.start().await;
    rig.broker.delete(&queue(LEVELS[0])).await;
    that_wait(&rig, &["a", "b", "c"]).await;
    until_in(&rig, LEVELS[1], 3).await;
    let mut flow = Flow::new(&rig);
    flow.one_of_each(&mut rig).await;
    flow.assert_goals();
    let there = async || rig.broker.count(&queue(LEVELS[0])).await;
    eventually("it is declared again", there).await;
    that_wait(&rig, &["d"]).await;
    until_in(&rig, LEVELS[0], 1).await;
    let metrics = rig.metrics().await;
    assert_eq!(metrics.value("consumers_lost_total", &[]), 0.0);
    let log = rig.worker().log();
    assert_eq!(log.matches("connected to the broker; consuming").count(), 1, "{log}");
    for level in &LEVELS[..2] {
        rig.broker.purge(&queue(*level)).await;
    }
    rig.finish().await;
}
