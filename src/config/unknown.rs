//! Variables that look like settings and are none: most likely typos, so somebody believes to have
//! set what is not set.

use std::collections::BTreeSet;

/// Nobody else's variables are likely to begin so; `LOG_`, `RUST_` and `ADMIN_` are not only ours.
const PREFIXES: [&str; 9] =
    ["AMQP_", "EKO_", "LEDGER_", "ORPHAN_", "OTP_", "REFUND_", "RETRY_", "SETTLE_", "WORKER_"];

/// Whatever its first word, a name so many letters away from a setting's is taken for a typo.
const NEAR: usize = 2;

/// A sentence for each variable that looks like a setting and is none of those `known`.
pub(super) fn unknown(
    variables: impl Iterator<Item = String>,
    known: &BTreeSet<String>,
) -> Vec<String> {
    let mut sentences: Vec<_> = variables
        .filter(|name| !known.contains(name))
        .filter_map(|name| {
            let (distance, nearest) =
                known.iter().map(|known| (strsim::osa_distance(&name, known), known)).min()?;
            let is_near = distance <= NEAR;
            let is_ours = PREFIXES.iter().any(|prefix| name.starts_with(prefix));
            // Further away it would be a guess that helps nobody.
            let hint = if distance <= name.len() / 3 {
                format!("; did you mean {nearest}?")
            } else {
                String::new()
            };
            (is_near || is_ours)
                .then(|| format!("{name} is set, but there is no such setting{hint}"))
        })
        .collect();
    sentences.sort();
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &[&str]) -> Vec<String> {
        let known = ["AMQP_URL", "EKO_TIMEOUT", "EKO_ACCESS_KEY", "LOG_FORMAT"];
        let known = known.map(str::to_owned).into();
        unknown(names.iter().map(|name| (*name).to_owned()), &known)
    }

    #[test]
    fn a_typo_is_told_with_what_it_most_likely_means() {
        assert_eq!(
            told(&["EKO_TIMEOUTS"]),
            ["EKO_TIMEOUTS is set, but there is no such setting; did you mean EKO_TIMEOUT?"]
        );
        assert_eq!(
            told(&["AMPQ_URL"]),
            ["AMPQ_URL is set, but there is no such setting; did you mean AMQP_URL?"]
        );
        assert_eq!(
            told(&["LOG_FROMAT"]),
            ["LOG_FROMAT is set, but there is no such setting; did you mean LOG_FORMAT?"]
        );
    }

    #[test]
    fn what_begins_as_a_setting_and_is_none_is_told_too() {
        assert_eq!(
            told(&["WORKER_SPEED", "EKO_HOST_NAME"]),
            [
                "EKO_HOST_NAME is set, but there is no such setting",
                "WORKER_SPEED is set, but there is no such setting",
            ]
        );
    }

    #[test]
    fn settings_and_other_people_s_variables_are_not() {
        assert_eq!(told(&["EKO_TIMEOUT", "PATH", "RUST_BACKTRACE", "LOG_LEVEL", "HOME"]), [""; 0]);
    }
}
