//! How many calls a second: over all kinds, with a share for each.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Mutex;

use crate::command::Kind;

/// What a call is for. Each purpose has a share of the calls a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A command's own call.
    Command(Kind),
    /// An inquiry.
    Inquiry,
}

/// The limit of calls a second, if there is one.
///
/// Those of one purpose wait in a line, and only the first of each line waits for the next call:
/// there the purposes take turns. So a backlog of one holds up another by as many calls as there are
/// purposes, and a purpose without anybody in its line leaves its share to the others.
pub(super) struct Pace(Option<Lines>);

struct Lines {
    limiter: DefaultDirectRateLimiter,
    turn: Mutex<()>,
    lines: [Mutex<()>; Kind::ALL.len() + 1],
}

impl Pace {
    /// So many calls a second, or as many as come.
    pub(super) fn new(rate: Option<NonZeroU32>) -> Self {
        Self(rate.map(|rate| {
            // Without a burst, calls are spread evenly over each second.
            let quota = Quota::per_second(rate).allow_burst(NonZeroU32::MIN);
            let limiter = RateLimiter::direct(quota);
            Lines { limiter, turn: Mutex::default(), lines: Default::default() }
        }))
    }

    /// Whether a call may be made without waiting.
    pub(super) fn try_pass(&self, purpose: Purpose) -> bool {
        let Some(lines) = &self.0 else { return true };
        let (line, turn) = (lines.of(purpose).try_lock(), lines.turn.try_lock());
        line.is_ok() && turn.is_ok() && lines.limiter.check().is_ok()
    }

    /// Waits until a call may be made.
    pub(super) async fn pass(&self, purpose: Purpose) {
        let Some(lines) = &self.0 else { return };
        // Both let in who waits in the order of coming.
        let _line = lines.of(purpose).lock().await;
        let _turn = lines.turn.lock().await;
        lines.limiter.until_ready().await;
    }
}

impl Lines {
    const fn of(&self, purpose: Purpose) -> &Mutex<()> {
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

    const OTP: Purpose = Purpose::Command(Kind::RefundOtp);
    const REFUND: Purpose = Purpose::Command(Kind::Refund);

    fn paced(rate: u32) -> Arc<Pace> {
        Arc::new(Pace::new(NonZeroU32::new(rate)))
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

    #[test]
    fn without_a_limit_nobody_waits() {
        assert!(Pace::new(None).try_pass(OTP));
        let pace = paced(1);
        assert!(pace.try_pass(OTP) && !pace.try_pass(REFUND));
    }
}
