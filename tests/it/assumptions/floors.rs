//! Settings under which a promise would not hold are refused at the start, with the reason.

use crate::rig::Rig;

#[tokio::test]
async fn settings_under_which_a_refund_could_be_executed_twice_are_refused() {
    let mut rig = Rig::builder().start_without_worker().await;
    let sum = ["EKO_STAMP_AGE", "EKO_TIMEOUT", "EKO_STAMP_TOLERANCE"];
    let cases: [(&str, &str, &[&str]); 5] = [
        ("LEDGER_RETENTION", "1s", &["LEDGER_RETENTION"]),
        ("EKO_STAMP_AGE", "1s", &sum),
        ("EKO_STAMP_TOLERANCE", "4s", &sum),
        ("EKO_TIMEOUT", "6s", &["EKO_TIMEOUT"]),
        ("SETTLE_QUIET", "4s", &["SETTLE_QUIET", "EKO_TIMEOUT"]),
    ];
    for (name, value, named) in cases {
        let mut settings = rig.settings.clone();
        settings.insert(name.to_owned(), value.to_owned());
        let mut worker = rig.spawn_beside(&settings);
        assert_eq!(worker.ready_or_ended().await, Some(2), "{name}={value} is accepted");
        let said = worker.log();
        let unnamed: Vec<_> = named.iter().filter(|name| !said.contains(**name)).collect();
        assert!(unnamed.is_empty(), "{unnamed:?} are not named for {name}={value}: {said}");
    }
}
