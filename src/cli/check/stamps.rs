//! What Eko accepts of timestamps, measured with read-only inquiries, and whether the settings say so.

use std::time::Duration;

use crate::verdict::{Cause, Reading};

/// How far beside the tolerance it is measured: Eko's clock is known to a second, and a call may be on
/// its way for some.
const BESIDE: Duration = Duration::from_secs(5);

/// How often a refused timestamp is tried again, each time another one: a worker that runs with the
/// same key may have used it.
const TRIES: u32 = 3;

/// The settings that are measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimestampSettings {
    /// `EKO_STAMP_AGE`.
    pub(super) age: Duration,
    /// `EKO_STAMP_TOLERANCE`.
    pub(super) tolerance: Duration,
}

/// Whether Eko took a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It answered the inquiry.
    Yes,
    /// It refused the timestamp, or did not say what it refused.
    No,
    /// It told nothing of it.
    Unknown(Cause),
}

impl Taken {
    /// What an answer tells.
    pub(super) const fn of(reading: &Reading) -> Self {
        match reading {
            Reading::NoAnswer(Cause::Clock | Cause::Unauthorized) => Self::No,
            Reading::NoAnswer(cause) => Self::Unknown(*cause),
            Reading::Refunded(..)
            | Reading::RefundPending
            | Reading::Succeeded
            | Reading::Failed
            | Reading::InProgress
            | Reading::NotFound
            | Reading::Contradictory => Self::Yes,
        }
    }
}

/// Measures with inquiries whose timestamps lie so far in Eko's past.
///
/// # Errors
/// A setting that is not true, with what to set; or that nothing could be measured.
pub(super) async fn check(
    TimestampSettings { age, tolerance }: TimestampSettings,
    probe: impl AsyncFn(Duration) -> Taken,
) -> anyhow::Result<String> {
    let beside = BESIDE.min(tolerance / 2);
    let (younger, older) = (tolerance.saturating_sub(beside), tolerance.saturating_add(beside));
    let is_taken = async |age| is_taken(age, &probe).await;
    let [age_s, younger_s, older_s, tolerance_s] =
        [age, younger, older, tolerance].map(|duration| duration.as_secs_f64());
    if !is_taken(age).await? {
        let is_age = !age.is_zero() && is_taken(Duration::ZERO).await?;
        anyhow::ensure!(!is_age, "Eko refuses a timestamp {age_s} s old: lower EKO_STAMP_AGE");
        anyhow::bail!(
            "not known: Eko accepts no timestamp of this worker; see the check `inquiry`"
        );
    }
    anyhow::ensure!(
        !is_taken(older).await?,
        "Eko still accepts a timestamp {older_s} s old: raise EKO_STAMP_TOLERANCE, or a refund \
         could be repeated while Eko can still execute the first one"
    );
    anyhow::ensure!(
        is_taken(younger).await?,
        "Eko refuses a timestamp {younger_s} s old: lower EKO_STAMP_TOLERANCE, so that a refund in \
         doubt is settled sooner"
    );
    Ok(format!(
        "Eko accepts a timestamp {younger_s} s old and refuses one {older_s} s old, as \
         EKO_STAMP_TOLERANCE {tolerance_s} s says; it accepts those of EKO_STAMP_AGE {age_s} s"
    ))
}

/// Whether Eko takes a timestamp of an age, or one of its neighbours.
async fn is_taken(age: Duration, probe: &impl AsyncFn(Duration) -> Taken) -> anyhow::Result<bool> {
    for nth in 0..TRIES {
        match probe(age.saturating_add(Duration::from_millis(u64::from(nth) * 7))).await {
            Taken::Yes => return Ok(true),
            Taken::No => {}
            Taken::Unknown(cause) => anyhow::bail!("not known: {}", cause.sentence()),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What is told of an Eko that accepts timestamps up to this age.
    async fn told(age: u64, tolerance: u64, accepts: u64) -> Result<String, String> {
        let settings = TimestampSettings { age: seconds(age), tolerance: seconds(tolerance) };
        let probe = async |age| if age <= seconds(accepts) { Taken::Yes } else { Taken::No };
        check(settings, probe).await.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn true_settings_are_in_order() {
        assert_eq!(
            told(80, 120, 120).await.unwrap(),
            "Eko accepts a timestamp 115 s old and refuses one 125 s old, as EKO_STAMP_TOLERANCE \
             120 s says; it accepts those of EKO_STAMP_AGE 80 s"
        );
        assert!(told(0, 120, 118).await.is_ok());
        assert!(told(0, 4, 4).await.is_ok(), "a short one is measured closer to it");
    }

    #[tokio::test]
    async fn a_setting_that_is_not_true_is_named_with_what_to_set() {
        for (age, tolerance, accepts, expected) in [
            (0, 120, 300, "Eko still accepts a timestamp 125 s old: raise EKO_STAMP_TOLERANCE"),
            (0, 120, 60, "Eko refuses a timestamp 115 s old: lower EKO_STAMP_TOLERANCE"),
            (80, 120, 60, "Eko refuses a timestamp 80 s old: lower EKO_STAMP_AGE"),
        ] {
            let told = told(age, tolerance, accepts).await.unwrap_err();
            assert!(told.starts_with(expected), "{told}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_measured_is_not_known() {
        let settings = TimestampSettings { age: seconds(80), tolerance: seconds(120) };
        for (answer, expected) in [
            (Taken::No, "not known: Eko accepts no timestamp of this worker"),
            (Taken::Unknown(Cause::Network), "not known: Eko could not be reached"),
        ] {
            let told = check(settings, async |_| answer).await.unwrap_err().to_string();
            assert!(told.starts_with(expected), "{told}");
        }
    }

    #[tokio::test]
    async fn a_timestamp_that_a_worker_has_used_is_not_taken_for_refused() {
        let settings = TimestampSettings { age: seconds(0), tolerance: seconds(120) };
        let asked = Mutex::new(Vec::new());
        let probe = async |age: Duration| {
            asked.lock().unwrap().push(age);
            let is_used = age == seconds(115) || age == seconds(125);
            if is_used || age > seconds(200) { Taken::No } else { Taken::Yes }
        };
        let told = check(settings, probe).await.unwrap_err().to_string();
        assert!(told.starts_with("Eko still accepts"), "{told}");
        assert_eq!(asked.lock().unwrap().len(), 3, "the age, and 125 s twice");
    }

    #[test]
    fn what_names_no_timestamp_tells_nothing_of_it() {
        assert_eq!(Taken::of(&Reading::NotFound), Taken::Yes);
        assert_eq!(Taken::of(&Reading::NoAnswer(Cause::Clock)), Taken::No);
        assert_eq!(Taken::of(&Reading::NoAnswer(Cause::Unauthorized)), Taken::No);
        let other = Cause::Misconfigured;
        assert_eq!(Taken::of(&Reading::NoAnswer(other)), Taken::Unknown(other));
    }
}
