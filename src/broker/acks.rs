//! Acknowledging: one task a consuming channel, since only who knows of all its deliveries can
//! acknowledge many of them in one frame.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::connection_monitor::ConnectionMonitor;
use super::relay::Taken;

/// How a delivery is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settlement {
    /// Nothing more follows from it.
    Ack,
    /// It goes back to its queue untouched.
    Requeue,
    /// The broker puts it among the dead letters.
    DeadLetter,
}

struct Request {
    tag: u64,
    settlement: Settlement,
    answer: oneshot::Sender<Result<(), Error>>,
}

/// A handle on the settling task of one channel, which the task keeps open as long as there is
/// a handle: with the channel would go whatever is not settled.
#[derive(Clone)]
pub(super) struct Acks {
    requests: mpsc::Sender<Request>,
    deliveries: Arc<Mutex<Deliveries>>,
}

/// Leave to settle one delivery, once.
pub(super) struct Ack {
    tag: u64,
    acks: Acks,
    /// The room of its body.
    _taken: Taken,
}

impl Acks {
    /// Starts the task for a channel of which this is told of every delivery, in order.
    pub(super) fn start(channel: Channel, monitor: ConnectionMonitor, prefetch: u16) -> Self {
        let most = usize::from(prefetch.max(1));
        let (requests, inbox) = mpsc::channel(most);
        let deliveries = Arc::default();
        let task = Task { channel, monitor, deliveries: Arc::clone(&deliveries), most };
        tokio::spawn(task.run(inbox));
        Self { requests, deliveries }
    }

    /// Notes a delivery whose body takes some room.
    pub(super) fn note(&self, tag: u64, taken: Taken) -> Ack {
        self.deliveries.lock().unwrap_or_else(PoisonError::into_inner).note(tag);
        Ack { tag, acks: self.clone(), _taken: taken }
    }
}

impl Ack {
    /// Acknowledges.
    pub(super) async fn ack(self) -> Result<(), Error> {
        self.settle(Settlement::Ack).await
    }

    /// Has the broker put it among the dead letters.
    pub(super) async fn dead_letter(self) -> Result<(), Error> {
        self.settle(Settlement::DeadLetter).await
    }

    /// Requeues it.
    pub(super) async fn requeue(self) -> Result<(), Error> {
        self.settle(Settlement::Requeue).await
    }

    async fn settle(self, settlement: Settlement) -> Result<(), Error> {
        let (answer, settled) = oneshot::channel();
        let gone =
            || Error::Lost("its channel was lost; the message is delivered again".to_owned());
        let request = Request { tag: self.tag, settlement, answer };
        self.acks.requests.send(request).await.map_err(|_| gone())?;
        settled.await.map_err(|_| gone())?
    }
}

/// The settling task of one channel.
struct Task {
    channel: Channel,
    monitor: ConnectionMonitor,
    deliveries: Arc<Mutex<Deliveries>>,
    /// How many are settled at once at most.
    most: usize,
}

impl Task {
    async fn run(self, mut inbox: mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(self.most);
        while let Some(request) = inbox.recv().await {
            batch.push(request);
            // Confirms come for many at once. Whoever else got one may ask now.
            tokio::task::yield_now().await;
            while batch.len() < self.most
                && let Ok(request) = inbox.try_recv()
            {
                batch.push(request);
            }
            let plan = self
                .deliveries
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .settle(batch.iter().map(|request| (request.tag, request.settlement)));
            let settling = self.monitor.unless_closed(carry_out(&self.channel, plan));
            let settled = settling.await.map_err(Error::from);
            for Request { answer, .. } in batch.drain(..) {
                // Whoever asked may have given up waiting.
                drop(answer.send(settled.clone()));
            }
        }
    }
}

async fn carry_out(channel: &Channel, plan: Plan) -> lapin::Result<()> {
    for (tags, requeue) in [(&plan.requeued, true), (&plan.dead_lettered, false)] {
        let options = BasicNackOptions { requeue, multiple: false };
        try_join_all(tags.iter().map(|&tag| channel.basic_nack(tag, options))).await?;
    }
    if let Some(tag) = plan.up_to {
        channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
    }
    let one = BasicAckOptions { multiple: false };
    try_join_all(plan.alone.iter().map(|&tag| channel.basic_ack(tag, one))).await?;
    Ok(())
}

/// What is known of the deliveries of a channel. The broker numbers them from 1.
#[derive(Debug, Default)]
struct Deliveries {
    /// The last one.
    last: u64,
    /// One was not seen, or not in order: what is not known of must not be acknowledged, so
    /// from then on each is settled alone.
    is_incomplete: bool,
    unsettled: BTreeSet<u64>,
}

/// What is to be said to the broker, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    requeued: Vec<u64>,
    dead_lettered: Vec<u64>,
    /// This one, and all before it that are not settled.
    up_to: Option<u64>,
    alone: Vec<u64>,
}

impl Deliveries {
    fn note(&mut self, tag: u64) {
        self.is_incomplete |= tag != self.last + 1;
        self.last = tag;
        self.unsettled.insert(tag);
    }

    fn settle(&mut self, settled: impl Iterator<Item = (u64, Settlement)>) -> Plan {
        let mut plan = Plan::default();
        for (tag, settlement) in settled {
            self.unsettled.remove(&tag);
            match settlement {
                Settlement::Ack => plan.alone.push(tag),
                Settlement::Requeue => plan.requeued.push(tag),
                Settlement::DeadLetter => plan.dead_lettered.push(tag),
            }
        }
        if self.is_incomplete {
            return plan;
        }
        plan.alone.sort_unstable();
        let first_left = self.unsettled.first().copied().unwrap_or(u64::MAX);
        let covered = plan.alone.partition_point(|&tag| tag < first_left);
        plan.up_to = plan.alone.drain(..covered).next_back();
        plan
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the broker makes of a plan: it closes the channel over a tag that it does not have
    /// out, also as the end of many.
    fn carry_out(plan: &Plan, out: &mut BTreeSet<u64>) -> Vec<u64> {
        let mut acked = Vec::new();
        for tag in &plan.requeued {
            assert!(out.remove(tag), "{tag} handed back twice");
        }
        if let Some(up_to) = plan.up_to {
            assert!(out.contains(&up_to), "{up_to} acknowledged twice");
            let later = out.split_off(&(up_to + 1));
            acked.extend(std::mem::replace(out, later));
        }
        for tag in &plan.alone {
            assert!(out.remove(tag), "{tag} acknowledged twice");
            acked.push(*tag);
        }
        acked
    }

    #[test]
    fn what_is_settled_from_the_first_on_is_acknowledged_in_one() {
        let mut deliveries = Deliveries::default();
        (1..=6).for_each(|tag| deliveries.note(tag));
        let ack = |tag| (tag, Settlement::Ack);
        let plan = deliveries.settle([3, 1, 2, 5].map(ack).into_iter());
        assert_eq!(plan, Plan { up_to: Some(3), alone: vec![5], ..Plan::default() });
        let plan = deliveries.settle([(4, Settlement::Requeue)].into_iter());
        assert_eq!(plan, Plan { requeued: vec![4], ..Plan::default() });
        let plan = deliveries.settle([6].map(ack).into_iter());
        assert_eq!(plan, Plan { up_to: Some(6), ..Plan::default() });
    }

    #[test]
    fn where_a_delivery_was_not_seen_none_is_acknowledged_for_another() {
        let mut deliveries = Deliveries::default();
        [1, 3].into_iter().for_each(|tag| deliveries.note(tag));
        let plan = deliveries.settle([1, 3].map(|tag| (tag, Settlement::Ack)).into_iter());
        assert_eq!(plan, Plan { alone: vec![1, 3], ..Plan::default() });
    }

    proptest! {
        /// Whatever comes, is lost on the way and is settled in whatever order: exactly that.
        #[test]
        fn what_is_acknowledged_was_settled(
            steps in prop::collection::vec((0..6u8, any::<prop::sample::Index>(), 1..8usize), 1..80),
        ) {
            let (mut deliveries, mut last) = (Deliveries::default(), 0);
            let (mut out, mut held) = (BTreeSet::new(), Vec::new());
            for (step, chosen, count) in steps {
                if step < 3 {
                    for _ in 0..count {
                        last += 1;
                        out.insert(last);
                        // Seldom, one gets lost between lapin and us.
                        if step > 0 || chosen.index(20) > 0 {
                            deliveries.note(last);
                            held.push(last);
                        }
                    }
                    continue;
                }
                let settlement = if step == 3 { Settlement::Requeue } else { Settlement::Ack };
                let mut settled = Vec::new();
                for _ in 0..count.min(held.len()) {
                    settled.push((held.swap_remove(chosen.index(held.len())), settlement));
                }
                let plan = deliveries.settle(settled.iter().copied());
                let mut acked = carry_out(&plan, &mut out);
                acked.sort_unstable();
                let mut expected: Vec<u64> = settled
                    .iter()
                    .filter(|(_, settlement)| *settlement == Settlement::Ack)
                    .map(|(tag, _)| *tag)
                    .collect();
                expected.sort_unstable();
                prop_assert_eq!(acked, expected);
            }
        }
    }
}
