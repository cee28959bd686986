use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_700_000_000_000_000;

const fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn settings(age: Duration, rate: u32) -> Settings {
    Settings { stamp_age: age, fleet_rate: NonZeroU32::new(rate), ..Settings::default() }
}

fn timestamps(age: Duration, rate: u32) -> Timestamps {
    Timestamps::new(settings(age, rate), Clock::begin())
}

fn unpaced() -> Timestamps {
    timestamps(Duration::ZERO, 0)
}

/// A row of a ledger whose clock runs as the process does, and is ahead by so much.
struct Row {
    next: i64,
    ahead: i64,
}

impl Row {
    const fn new() -> Self {
        Self { next: 0, ahead: 0 }
    }

    fn take(&mut self, want: Want, now: Duration) -> SlotBlock {
        let ledger_time = NOW + self.ahead + i64::try_from(now.as_micros()).unwrap();
        let first = self.next.max(ledger_time - want.age);
        self.next = first + i64::from(want.count) * want.spacing;
        SlotBlock { first, count: want.count, ledger_time }
    }

    /// Gives what is wanted now; how many slots.
    fn serve(&mut self, timestamps: &Timestamps, now: Duration) -> u32 {
        let Some(want) = timestamps.want(&timestamps.lock(), now) else { return 0 };
        timestamps.grant_at(want, self.take(want, now), now);
        want.count
    }
}

fn drain(timestamps: &Timestamps, now: Duration) -> Vec<i64> {
    std::iter::from_fn(|| timestamps.draw(now).ok()).map(|stamp| stamp.at).collect()
}

#[test]
fn nothing_is_drawn_before_the_ledger_has_given_a_block() {
    let timestamps = unpaced();
    assert_eq!(timestamps.draw(at(0)), Err(Wait::ForBlock));
    assert_eq!(Row::new().serve(&timestamps, at(1)), 2 * SMALLEST);
    assert_eq!(timestamps.draw(at(1)), Ok(Stamp { at: NOW / 1_000 + 1, lead: 0 }));
    assert_eq!(timestamps.draw(at(1)), Ok(Stamp { at: NOW / 1_000 + 2, lead: 1 }));
}

#[test]
fn a_lead_is_not_less_than_it_is() {
    let timestamps = unpaced();
    let want = timestamps.want(&timestamps.lock(), at(0)).unwrap();
    let block = SlotBlock { first: NOW + 1, count: 1, ledger_time: NOW };
    timestamps.grant_at(want, block, at(0));
    assert_eq!(timestamps.draw(at(0)), Ok(Stamp { at: NOW / 1_000, lead: 1 }));
}

#[test]
fn what_is_not_used_in_time_is_dropped() {
    let (mut row, timestamps) = (Row::new(), unpaced());
    row.serve(&timestamps, at(0));
    let oldest = timestamps.draw(at(3_000)).unwrap();
    assert_eq!(oldest, Stamp { at: NOW / 1_000, lead: 0 }, "3 s old, and counts as new");
    assert_eq!(timestamps.draw(at(3_020)).unwrap().at, NOW / 1_000 + 20, "19 were too old");
    assert_eq!(timestamps.draw(at(4_000)), Err(Wait::ForBlock));
}

#[test]
fn an_aged_timestamp_lies_in_the_past() {
    let (mut row, timestamps) = (Row::new(), timestamps(Duration::from_secs(80), 0));
    row.serve(&timestamps, at(0));
    assert_eq!(timestamps.draw(at(0)), Ok(Stamp { at: NOW / 1_000 - 80_000, lead: -80_000 }));
}

#[test]
fn a_burst_uses_timestamps_ahead_of_the_clock() {
    let (mut row, timestamps) = (Row::new(), unpaced());
    let mut drawn = Vec::new();
    while drawn.len() < 5_000 {
        row.serve(&timestamps, at(0));
        drawn.extend(std::iter::from_fn(|| timestamps.draw(at(0)).ok()));
    }
    let last = drawn.last().unwrap();
    assert_eq!(
        (last.at, last.lead),
        (NOW / 1_000 + last.lead, i64::try_from(drawn.len()).unwrap() - 1)
    );
}

#[test]
fn blocks_grow_with_what_is_used_and_shrink_with_what_is_not() {
    let (mut row, timestamps) = (Row::new(), unpaced());
    let mut sizes = Vec::new();
    for now in (0..9).map(|step| at(step * 100)) {
        sizes.push(row.serve(&timestamps, now));
        drain(&timestamps, now);
    }
    assert_eq!(sizes, [64, 128, 256, 512, 1_024, 2_048, 4_096, 4_096, 4_096]);
    for now in (1..20).map(|step| at(step * 1_100)) {
        row.serve(&timestamps, now);
        drain(&timestamps, now);
    }
    assert_eq!(timestamps.lock().size, SMALLEST);
}

#[test]
fn a_ledger_s_clock_that_was_set_makes_the_slots_before_it_unusable() {
    for ahead in [3_600_000 * MILLISECOND, -3_600_000 * MILLISECOND] {
        let (mut row, timestamps) = (Row::new(), unpaced());
        row.serve(&timestamps, at(0));
        timestamps.draw(at(0)).unwrap();
        let want = Want { count: 1, spacing: MILLISECOND, age: 0, generation: 0 };
        timestamps.grant_at(want, Row { next: 0, ahead }.take(want, at(1)), at(1));
        let stamp = timestamps.draw(at(1)).unwrap();
        assert_eq!((stamp.at, stamp.lead), ((NOW + ahead) / 1_000 + 1, 0), "{ahead}");
    }
}

#[test]
fn what_was_asked_for_before_it_forgot_is_not_used() {
    let (mut row, timestamps) = (Row::new(), unpaced());
    row.serve(&timestamps, at(0));
    let want = timestamps.want(&timestamps.lock(), at(4_000));
    assert_eq!(want, None, "there are slots");
    timestamps.forget();
    assert_eq!(timestamps.draw(at(1)), Err(Wait::ForBlock));
    let want = timestamps.want(&timestamps.lock(), at(1)).unwrap();
    timestamps.forget();
    timestamps.grant_at(want, row.take(want, at(2)), at(2));
    assert_eq!(timestamps.draw(at(2)), Err(Wait::ForBlock));
    row.serve(&timestamps, at(3));
    assert!(timestamps.draw(at(3)).is_ok());
}

#[test]
fn a_rate_asks_for_no_more_than_there_are_calls() {
    let (mut row, timestamps) = (Row::new(), timestamps(Duration::ZERO, 50));
    assert_eq!(row.serve(&timestamps, at(0)), 0, "nobody waits");
    let waiting = [(); 3].map(|()| timestamps.waiting());
    assert_eq!(row.serve(&timestamps, at(0)), 3);
    assert_eq!(row.serve(&timestamps, at(0)), 0, "there is one for each");
    assert_eq!(drain(&timestamps, at(0)).len(), 1);
    assert_eq!(timestamps.draw(at(0)), Err(Wait::ForTime(at(20))));
    drop(waiting);
    let _waiting = [(); 100].map(|()| timestamps.waiting());
    assert_eq!(row.serve(&timestamps, at(0)), 10, "a fifth of a second, for others wait, too");
}

#[test]
fn a_rate_holds_over_all_workers_and_nothing_missed_is_made_up_for() {
    let mut row = Row::new();
    let workers = [(); 4].map(|()| timestamps(Duration::ZERO, 50));
    let waiting: Vec<Waiting<'_>> =
        workers.iter().flat_map(|worker| (0..100).map(|_| worker.waiting())).collect();
    let mut sent = Vec::new();
    for now in (0..5_000).map(at) {
        // Nobody sends in this second.
        if (2_000..3_000).contains(&now.as_millis()) {
            continue;
        }
        for worker in &workers {
            row.serve(worker, now);
            sent.extend(drain(worker, now).iter().map(|_| now));
        }
    }
    drop(waiting);
    for from in 0..4_000 {
        let second = |sent: &&Duration| (at(from)..at(from + 1_000)).contains(*sent);
        let count = sent.iter().filter(second).count();
        assert!(count <= 52, "{count} in the second from {from} ms");
        if !(1_000..=3_500).contains(&from) {
            assert!(count >= 49, "{count} in the second from {from} ms");
        }
    }
}

proptest! {
    /// Workers call when they like; some die and begin anew.
    #[test]
    fn no_two_calls_of_a_key_share_a_timestamp(
        steps in prop::collection::vec((0_usize..3, 0_u32..200, 0_u64..2_000, 0_u32..20), 1..200),
        rate in prop::sample::select(vec![0, 50, 700]),
    ) {
        let (mut row, mut seen, mut now) = (Row::new(), HashSet::new(), 0);
        let mut workers = [(); 3].map(|()| timestamps(Duration::ZERO, rate));
        for (number, calls, passed, fate) in steps {
            now += passed;
            if fate == 0 {
                workers[number] = timestamps(Duration::ZERO, rate);
            }
            let worker = &workers[number];
            for _ in 0..calls {
                let _waiting = worker.waiting();
                row.serve(worker, at(now));
                if let Ok(stamp) = worker.draw(at(now)) {
                    prop_assert!(seen.insert(stamp.at), "{} twice", stamp.at);
                    let early = stamp.at - (NOW / 1_000 + i64::try_from(now).unwrap());
                    prop_assert!(early >= -KEPT / 1_000, "{early} ms is too old");
                    prop_assert!(rate == 0 || early <= 0, "{early} ms before its time");
                    prop_assert!(stamp.lead >= early.max(0), "{} is less", stamp.lead);
                }
            }
        }
    }
}

#[tokio::test]
async fn who_waits_is_served_in_order_as_blocks_come() {
    let clock = Clock::begin();
    let timestamps = Timestamps::new(settings(Duration::ZERO, 10), clock);
    let mut row = Row::new();
    let serve = async {
        loop {
            let want = timestamps.wanted().await;
            timestamps.grant(want, row.take(want, clock.passed()));
        }
    };
    let calls = async {
        let mut stamps = Vec::new();
        for _ in 0..3 {
            let _waiting = timestamps.waiting();
            stamps.push(timestamps.next().await.at);
        }
        stamps
    };
    let stamps = tokio::select! {
        () = serve => Vec::new(),
        stamps = calls => stamps,
    };
    assert_eq!(stamps.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>(), [100, 100]);
    assert!(clock.passed() >= at(200), "each at its time");
}
