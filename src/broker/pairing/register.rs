//! The register's message.

use serde::{Deserialize, Serialize};

/// What the register says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Register {
    /// The ledger's id.
    pub(crate) ledger: String,
    /// How often it had committed.
    pub(crate) commits: u64,
    /// The timeline of its PostgreSQL server; `None` where it has none, does not tell it, or an older
    /// version wrote this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeline: Option<u32>,
    /// Whether a worker had gone on with an older timeline's server after this one took over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_split: bool,
}

impl Register {
    /// Whether a server with a higher timeline than this one has taken over.
    pub(crate) fn is_newer_than(&self, timeline: Option<u32>) -> bool {
        matches!((self.timeline, timeline), (Some(known), Some(ours)) if known > ours)
    }

    /// Whether this timeline's server has taken over since this was written.
    pub(crate) fn is_older_than(&self, timeline: Option<u32>) -> bool {
        matches!((self.timeline, timeline), (Some(known), Some(ours)) if known < ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_register_is_json() {
        let register = |timeline, is_split| {
            let ledger = "0a1b".to_owned();
            Register { ledger, commits: 7, timeline, is_split }
        };
        for (register, text) in [
            (register(None, false), r#"{"ledger":"0a1b","commits":7}"#),
            (register(Some(2), false), r#"{"ledger":"0a1b","commits":7,"timeline":2}"#),
            (
                register(Some(2), true),
                r#"{"ledger":"0a1b","commits":7,"timeline":2,"is_split":true}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&register).unwrap(), text);
            assert_eq!(serde_json::from_str::<Register>(text).unwrap(), register);
        }
    }

    #[test]
    fn a_timeline_that_is_not_known_is_neither_newer_nor_older() {
        for (known, ours, is_newer, is_older) in [
            (Some(2), Some(1), true, false),
            (Some(1), Some(2), false, true),
            (Some(2), Some(2), false, false),
            (None, Some(2), false, false),
            (Some(2), None, false, false),
        ] {
            let register = Register { timeline: known, ..Register::default() };
            let found = (register.is_newer_than(ours), register.is_older_than(ours));
            assert_eq!(found, (is_newer, is_older), "{known:?} {ours:?}");
        }
    }
}
