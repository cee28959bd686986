//! What a worker has in hand.

use std::hash::{Hash as _, Hasher as _};
use std::rc::Rc;

use super::eko::Does;
use super::explorer::Mixer;
use super::scenario::CALL_TIMEOUT;
use super::world::{Message, fingerprint};
use crate::model::hash_claimed;
use crate::{ClaimRequest, ClaimedCommand};
use eko_core::decision::Trigger;
use eko_core::event::Event;
use eko_core::order::{Order, Owed, Published};

/// One delivery, or one command without a message, in a worker's hands.
#[derive(Clone, Default)]
pub(super) struct Slot {
    /// What is to be done next, if anything.
    pub(super) next: Option<Rc<Known>>,
    /// What the ledger is asked, where that was drawn up before.
    pub(super) request: Option<Rc<ClaimRequest>>,
    pub(super) message: Option<Message>,
    /// Of which command it is.
    pub(super) command: u8,
    /// It is taken for an orphan: there is no message.
    pub(super) is_orphan: bool,
    /// Its channel is gone: the broker has the message again.
    pub(super) is_cut: bool,
    pub(super) is_stalled: bool,
    /// When the call that is next was recorded.
    pub(super) began: u32,
    /// The call has left.
    pub(super) sent: Option<Does>,
}

/// An order, and its hash.
pub(super) struct Known {
    pub(super) order: Order<ClaimedCommand>,
    pub(super) digest: u64,
}

impl Known {
    pub(super) fn new(order: Order<ClaimedCommand>) -> Rc<Self> {
        let mut state = Mixer::default();
        hash_order(&order, &mut state);
        Rc::new(Self { order, digest: state.finish() })
    }
}

impl Slot {
    pub(super) fn is_idle(&self) -> bool {
        self.next.is_none()
    }

    /// Whether it could do something now; a call in flight may take its time.
    pub(super) fn is_at_work(&self, now: u32) -> bool {
        match self.sent {
            _ if self.is_stalled || self.is_idle() => false,
            Some(eko) => now >= self.began + CALL_TIMEOUT || eko.is_answered(),
            None => true,
        }
    }

    /// Whether the broker waits for it to acknowledge a copy of a command.
    pub(super) fn holds(&self, command: u8) -> bool {
        !self.is_cut && self.message.is_some_and(|message| message.command == command)
    }

    /// The command that it has claimed.
    pub(super) fn claimed(&self) -> Option<&ClaimedCommand> {
        claimed(&self.next.as_ref()?.order)
    }

    pub(super) fn digest(&self) -> u64 {
        let state = &mut Mixer::default();
        (self.message, self.command, self.is_orphan, self.is_cut, self.is_stalled).hash(state);
        if let Some(next) = &self.next {
            next.digest.hash(state);
            if matches!(next.order, Order::Call(_) | Order::Inquire(_)) {
                (self.began, self.sent).hash(state);
            }
        }
        state.finish()
    }
}

fn claimed(order: &Order<ClaimedCommand>) -> Option<&ClaimedCommand> {
    match order {
        Order::Decide(deciding) => Some(&deciding.claim),
        Order::Acquire(acquiring) => Some(&acquiring.claim),
        Order::Stamp(stamping) => Some(&stamping.claim),
        Order::Begin(beginning) => Some(&beginning.claim),
        Order::Call(calling) => Some(&calling.claim),
        Order::Inquire(inquiring) => Some(&inquiring.claim),
        Order::Note(noting) => Some(&noting.claim),
        Order::Finish(finishing) => Some(&finishing.claim),
        Order::Enter(_)
        | Order::Claim(_)
        | Order::Publish(_)
        | Order::ParkRefused(_)
        | Order::Wait(_)
        | Order::Park(_)
        | Order::Acknowledge(_)
        | Order::Requeue(_)
        | Order::NoteParked(_)
        | Order::NotePublished(_)
        | Order::End(_) => None,
    }
}

/// What tells two orders of one delivery apart.
fn hash_order(order: &Order<ClaimedCommand>, state: &mut Mixer) {
    std::mem::discriminant(order).hash(state);
    if let Some(claimed) = claimed(order) {
        hash_claimed(claimed, state);
    }
    let published = |published: &Published, state: &mut Mixer| {
        hash_event(&published.event, published.owed, state);
        published.refused.hash(state);
    };
    match order {
        Order::Decide(deciding) => (deciding.trigger == Trigger::Ready).hash(state),
        Order::Acquire(acquiring) => std::mem::discriminant(&acquiring.next).hash(state),
        Order::Begin(beginning) => std::mem::discriminant(&beginning.next).hash(state),
        Order::Note(noting) => (noting.delay, noting.unsettled, noting.reason).hash(state),
        Order::Finish(finishing) => finishing.outcome.as_str().hash(state),
        Order::Publish(publishing) => hash_event(&publishing.event, publishing.owed, state),
        Order::ParkRefused(parking) => published(&parking.published, state),
        Order::Park(parking) => {
            let copy = parking.copy;
            (copy.delay, copy.parked, copy.attempts, copy.reason.as_str()).hash(state);
            copy.age.map(|age| (age.first_received, age.proven)).hash(state);
        }
        Order::Acknowledge(acknowledging) => {
            acknowledging.parked.hash(state);
            if let Some(it) = &acknowledging.published {
                published(it, state);
            }
        }
        Order::Requeue(requeuing) => {
            if let Some(it) = &requeuing.published {
                published(it, state);
            }
        }
        Order::NoteParked(noting) => noting.parked.hash(state),
        Order::NotePublished(noting) => fingerprint(&noting.event).hash(state),
        Order::Enter(_)
        | Order::Claim(_)
        | Order::Stamp(_)
        | Order::Call(_)
        | Order::Inquire(_)
        | Order::Wait(_)
        | Order::End(_) => {}
    }
}

fn hash_event(event: &Event, owed: Owed, state: &mut Mixer) {
    (fingerprint(event), owed).hash(state);
}
