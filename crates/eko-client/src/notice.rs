//! What is said once and again now and then, since every call has the same to say.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between log lines that say the same.
const AGAIN: Duration = Duration::from_secs(60);

/// A log line as it was last said, and when.
#[derive(Debug, Default)]
pub(super) struct Notice(Mutex<Option<(String, Instant)>>);

impl Notice {
    /// Whether it is something else than was last said, or that was said a while ago.
    pub(super) fn is_due(&self, text: &str, now: Instant) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = said.as_ref().is_none_or(|(last, at)| last != text || now >= *at + AGAIN);
        if is_due {
            *said = Some((text.to_owned(), now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "some instant is needed to begin with")]
    fn the_same_is_said_once_a_minute() {
        let (notice, now) = (Notice::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        assert!(notice.is_due("a", now));
        assert!(!notice.is_due("a", after(59)));
        assert!(notice.is_due("b", after(59)));
        assert!(!notice.is_due("b", after(118)));
        assert!(notice.is_due("b", after(119)));
    }
}
