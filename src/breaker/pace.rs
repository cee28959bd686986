//! How many calls a second: over all kinds, with a share for each.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Mutex;

use super::timestamps::Timestamps;
use crate::clock::Stamp;
use crate::command::Kind;

/// What a call is for. Each purpose has a share of the calls a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A command's own call.
    Command(Kind),
    /// An inquiry.
    Inquiry,
}

/// The timestamps of this worker's calls, and the worker's own limit of calls a second, if there is
/// one.
///
/// Calls of one purpose wait in a line, and only the first of each line waits for the next call:
/// there the purposes take turns. So a backlog of one holds up another by as many calls as there are
/// purposes, and a purpose without anybody in its line leaves its share to the others.
pub(super) struct Pace {
    limiter: Option<DefaultDirectRateLimiter>,
    pub(super) timestamps: Timestamps,
    turn: Mutex<()>,
    lines: [Mutex<()>; Kind::ALL.len() + 1],
}

impl Pace {
    /// So many calls a second of this worker, or as many as there are timestamps for.
    pub(super) fn new(rate: Option<NonZeroU32>, timestamps: Timestamps) -> Self {
        // Without a burst, calls are spread evenly over each second.
        let quota = |rate| Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
        let limiter = rate.map(|rate| RateLimiter::direct(quota(rate)));
        Self { limiter, timestamps, turn: Mutex::default(), lines: Default::default() }
    }

    /// The timestamp of a call, if it may be made without waiting.
    pub(super) fn try_pass(&self, purpose: Purpose) -> Option<Stamp> {
        let (line, turn) = (self.line(purpose).try_lock(), self.turn.try_lock());
        let is_first = line.is_ok() && turn.is_ok() && self.timestamps.is_ready();
        let may_pass = || self.limiter.as_ref().is_none_or(|limiter| limiter.check().is_ok());
        if is_first && may_pass() { self.timestamps.try_next() } else { None }
    }

    /// Waits until a call may be made; its timestamp.
    pub(super) async fn pass(&self, purpose: Purpose) -> Stamp {
        // Who waits for the limiter needs no timestamp yet.
        let waiting = self.limiter.is_none().then(|| self.timestamps.waiting());
        // Both let in who waits in the order of coming.
        let _line = self.line(purpose).lock().await;
        let _turn = self.turn.lock().await;
        if let Some(limiter) = &self.limiter {
            limiter.until_ready().await;
        }
        let _waiting = waiting.unwrap_or_else(|| self.timestamps.waiting());
        self.timestamps.next().await
    }

    const fn line(&self, purpose: Purpose) -> &Mutex<()> {
        match purpose {
            Purpose::Command(Kind::RefundOtp) => &self.lines[0],
            Purpose::Command(Kind::Refund) => &self.lines[1],
            Purpose::Command(Kind::TransferOtp) => &self.lines[2],
            Purpose::Inquiry => &self.lines[3],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::breaker::Settings;
    use crate::worker::Clock;

    const OTP: Purpose = Purpose::Command(Kind::RefundOtp);
    const REFUND: Purpose = Purpose::Command(Kind::Refund);

    fn paced(rate: u32) -> Arc<Pace> {
        Arc::new(Pace::new(NonZeroU32::new(rate), Timestamps::stocked()))
    }

    /// So many that wait for a purpose, and how many of them have passed.
    async fn backlog(pace: &Arc<Pace>, purpose: Purpose, waiting: u32) -> Arc<AtomicU32> {
        let passed = Arc::<AtomicU32>::default();
        for _ in 0..waiting {
            let (pace, passed) = (Arc::clone(pace), Arc::clone(&passed));
            tokio::spawn(async move {
                pace.pass(purpose).await;
                passed.fetch_add(1, Ordering::SeqCst);
            });
        }
        // They are polled once, in this runtime of one thread, and stand in line.
        tokio::task::yield_now().await;
        passed
    }

    #[tokio::test]
    async fn a_backlog_of_one_purpose_holds_up_another_by_one_turn() {
        let pace = paced(50);
        let passed = backlog(&pace, OTP, 1_000).await;
        for _ in 0..10 {
            let before = passed.load(Ordering::SeqCst);
            pace.pass(REFUND).await;
            let between = passed.load(Ordering::SeqCst) - before;
            assert!(between <= 2, "{between} of the backlog passed first");
        }
    }

    #[tokio::test]
    async fn inquiries_have_a_share_of_their_own() {
        let pace = paced(100);
        let refunds = backlog(&pace, REFUND, 1_000).await;
        let inquiries = backlog(&pace, Purpose::Inquiry, 1_000).await;
        for _ in 0..10 {
            pace.pass(OTP).await;
        }
        let (refunds, inquiries) =
            (refunds.load(Ordering::SeqCst), inquiries.load(Ordering::SeqCst));
        assert!(refunds.abs_diff(10) <= 2, "{refunds} refunds");
        assert!(inquiries.abs_diff(10) <= 2, "{inquiries} inquiries");
    }

    #[tokio::test]
    async fn who_gives_up_waiting_leaves_the_line_to_the_next() {
        let pace = paced(1);
        let passed = backlog(&pace, OTP, 1).await;
        for _ in 0..3 {
            let waiting = pace.pass(REFUND);
            tokio::pin!(waiting);
            assert!(futures_util::poll!(&mut waiting).is_pending());
        }
        pace.pass(REFUND).await;
        assert_eq!(passed.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn without_a_limit_nobody_waits() {
        assert!(paced(0).try_pass(OTP).is_some());
        let pace = paced(1);
        assert!(pace.try_pass(OTP).is_some() && pace.try_pass(REFUND).is_none());
    }

    #[tokio::test]
    async fn nobody_calls_without_a_timestamp_and_no_two_have_the_same() {
        let without = Timestamps::new(Settings::default(), Clock::begin());
        assert_eq!(Pace::new(None, without).try_pass(OTP), None);
        let pace = paced(0);
        assert!(pace.try_pass(OTP).unwrap().at < pace.pass(OTP).await.at);
    }
}
