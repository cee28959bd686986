//! Slots of calls: each is given once.

use std::collections::HashSet;

use super::*;

const SECOND: i64 = 1_000_000;

fn wanted(key: &str, spacing: i64) -> SlotRequest {
    SlotRequest { key: key.to_owned(), count: 5, spacing, age: 0 }
}

on_both_stores! {
    async fn no_slot_is_given_twice(rig) {
        let ledger = rig.open().await;
        let first = ledger.take_slots(wanted("a", SECOND)).await.unwrap();
        assert_eq!((first.first, first.count), (first.ledger_time, 5));
        let next = ledger.take_slots(wanted("a", SECOND)).await.unwrap();
        assert_eq!(next.first, first.first + 5 * SECOND);
        let other = ledger.take_slots(wanted("b", SECOND)).await.unwrap();
        assert!(other.first < next.first, "another key has slots of its own");
        assert_eq!(ledger.commits().await.unwrap(), 0, "no command depends on it");
        let again = rig.reopen(ledger, 2).await.take_slots(wanted("a", SECOND)).await.unwrap();
        assert_eq!(again.first, next.first + 5 * SECOND);
    }

    async fn slots_begin_behind_the_timestamps_of_a_version_before(rig) {
        let ledger = rig.open().await;
        let now = ledger.take_slots(wanted("a", 1_000)).await.unwrap().ledger_time;
        let until = now / 1_000 + 30_000;
        alter_store(&rig, &format!("UPDATE meta SET stamps_until = {until}")).await;
        let block = ledger.take_slots(wanted("b", 1_000)).await.unwrap();
        assert_eq!(block.first, (until + 1) * 1_000);
    }

    async fn a_clock_that_was_ahead_for_a_while_gives_no_slot_again(rig) {
        let ledger = rig.open().await;
        let before = ledger.take_slots(wanted("a", 10 * SECOND)).await.unwrap();
        let hour = 3_600 * SECOND;
        let set = format!("UPDATE slots SET earlier = next, next = next + {hour}");
        alter_store(&rig, &set).await;
        let after = ledger.take_slots(wanted("a", SECOND)).await.unwrap();
        assert_eq!(after.first, before.first + 50 * SECOND);
    }
}

#[tokio::test]
async fn workers_that_take_slots_at_the_same_time_share_none() {
    let Some((_rig, one, two)) = two_workers("two_workers_slots").await else { return };
    let take_all = async |ledger: Ledger| {
        let mut blocks = Vec::new();
        for _ in 0..100 {
            blocks.push(ledger.take_slots(wanted("a", 1_000)).await.unwrap());
        }
        blocks
    };
    let (one, two) = tokio::join!(tokio::spawn(take_all(one)), tokio::spawn(take_all(two)));
    let mut seen = HashSet::new();
    for block in one.unwrap().into_iter().chain(two.unwrap()) {
        for slot in 0..i64::from(block.count) {
            assert!(seen.insert(block.first + slot * 1_000), "{block:?}");
        }
    }
    assert_eq!(seen.len(), 1_000);
}
