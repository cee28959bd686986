//! What is said once a minute, since every call has the same to say.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Between log lines that say the same.
const AGAIN: Duration = Duration::from_secs(60);

/// When a log line was last said, as long as the process had run then.
#[derive(Debug, Default)]
pub(super) struct Notice(Mutex<Option<Duration>>);

impl Notice {
    /// Whether it was not said for a while. Then it is said now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said.is_none_or(|said| now >= said.saturating_add(AGAIN));
        if is_due {
            *said = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_a_minute() {
        let (notice, at) = (Notice::default(), Duration::from_secs);
        assert!(notice.is_due(at(5)));
        assert!(!notice.is_due(at(64)));
        assert!(notice.is_due(at(65)));
        assert!(!notice.is_due(at(66)));
    }
}
