//! The ledger as the worker uses it, without broker or Eko.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use eko_core::clock::{Now, Stamp};
use eko_core::command::Kind;
use eko_core::event::{About, Event};
use eko_core::outcome::{Answer, ConfirmedBy, Outcome, Receipt};
use eko_core::trace::Trace;
use eko_core::verdict::Verdict;
use eko_ledger::{Claim, ClaimRequest, ClaimedCommand, Ledger, Opening, Settings};

/// A ledger under load.
#[derive(Clone)]
pub(crate) struct Bench {
    ledger: Ledger,
}

impl Bench {
    /// Opens the ledger of a `LEDGER_URL`.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        let settings = Settings::read(url).map_err(anyhow::Error::msg)?;
        let retention = Duration::from_secs(90 * 86_400);
        let opening = Opening { epoch: fastrand::u32(..), new_key: [7; 32], retention };
        Ok(Self { ledger: Ledger::open(&settings, &opening).await? })
    }

    /// Begins and finishes refunds number `first` to `first + count`, `tasks` at a time.
    ///
    /// # Errors
    /// Where one could not be begun or finished.
    pub(crate) async fn pairs(&self, first: u64, count: u64, tasks: u64) -> anyhow::Result<()> {
        self.each(first, count, tasks, Work::Pair).await
    }

    /// Asks again for refunds that are finished.
    ///
    /// # Errors
    /// Where one is not answered from the ledger.
    pub(crate) async fn repeats(&self, first: u64, count: u64, tasks: u64) -> anyhow::Result<()> {
        self.each(first, count, tasks, Work::Repeat).await
    }

    async fn each(&self, first: u64, count: u64, tasks: u64, work: Work) -> anyhow::Result<()> {
        let next = Arc::new(AtomicU64::new(first));
        let tasks: Vec<_> = (0..tasks)
            .map(|_| {
                let (bench, next) = (self.clone(), Arc::clone(&next));
                tokio::spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= first + count {
                            return anyhow::Ok(());
                        }
                        match work {
                            Work::Pair => bench.pair(number).await?,
                            Work::Repeat => bench.repeat(number).await?,
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(())
    }

    async fn pair(&self, number: u64) -> anyhow::Result<()> {
        let request = request(number);
        let (id, tid) = (request.id.clone(), request.tid.clone());
        let Claim::Fresh(mut claimed) = self.ledger.claim(request, fastrand::u32(..)).await? else {
            anyhow::bail!("{id} is not fresh");
        };
        let event = finish(&mut claimed, &tid.unwrap_or_default());
        anyhow::ensure!(
            self.ledger.finish(claimed, &event, false).await? == eko_ledger::LeaseStatus::Held,
            "{id} lost"
        );
        Ok(())
    }

    async fn repeat(&self, number: u64) -> anyhow::Result<()> {
        match self.ledger.claim(request(number), fastrand::u32(..)).await? {
            Claim::Finished { .. } => Ok(()),
            _ => anyhow::bail!("number {number} is not finished"),
        }
    }
}

#[derive(Clone, Copy)]
enum Work {
    Pair,
    Repeat,
}

/// One moment for all.
const NOW: Now = Now { wall: Timestamp::UNIX_EPOCH, process: 7, monotonic: Duration::ZERO };

/// Ids in no order, as publishers make them; tids in Eko's.
fn request(number: u64) -> ClaimRequest {
    let scattered = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (id, kind) = (format!("{scattered:016x}-refund"), Some(Kind::Refund));
    ClaimRequest {
        tid: Some((10_000_000 + number).to_string()),
        digest: Some(format!("{scattered:032x}")),
        stamp: Some(Stamp { at: 1_800_000_000_000, lead: 0 }),
        ..ClaimRequest::known(&id, kind, NOW, Duration::from_secs(55))
    }
}

fn finish(claimed: &mut ClaimedCommand, tid: &str) -> Event {
    let answer = Answer {
        http_status: 200,
        status: Some(0),
        response_status_id: Some(0),
        response_type_id: Some(74),
        message: Some("Refund done".to_owned()),
    };
    let mut receipt = Receipt::default();
    for (name, value) in [
        ("tid", tid),
        ("refund_tid", "2147591637"),
        ("refunded_amount", "5050.00"),
        ("amount", "5000.00"),
        ("fee", "50.00"),
        ("balance", "2222637312.86"),
        ("currency", "INR"),
        ("timestamp", "2018-10-30T12:00:14.058Z"),
    ] {
        receipt.put(name, value);
    }
    claimed.history.end(NOW, Verdict::Done(receipt.clone(), answer.clone()));
    let about = About {
        command_id: &claimed.id,
        event_id: &claimed.id,
        kind: Some(Kind::Refund),
        subject: Some(tid),
        correlation_id: None,
        attempts: 1,
        trace: &Trace::new(7),
        span: 7,
    };
    let confirmed_by = ConfirmedBy::Response;
    let outcome = Outcome::Succeeded { confirmed_by, receipt, answer: Some(answer) };
    Event::new(&about, &outcome, NOW.wall)
}
