//! Whose messages wait in this process for their turn: none of them is lost.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How many messages of each command wait.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<HashMap<String, usize>>);

/// One message that waits, until this is dropped.
pub(crate) struct Waits<'a> {
    waiting: &'a Waiting,
    id: &'a str,
}

impl Waiting {
    /// Notes that a message of a command waits.
    pub(crate) fn note<'a>(&'a self, id: &'a str) -> Waits<'a> {
        self.change(|waiting| *waiting.entry(id.to_owned()).or_default() += 1);
        Waits { waiting: self, id }
    }

    /// Whether one of a command does.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.change(|waiting| waiting.contains_key(id))
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<String, usize>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.waiting.change(|waiting| {
            if let Some(count) = waiting.get_mut(self.id) {
                *count -= 1;
                if *count == 0 {
                    waiting.remove(self.id);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_waits_as_long_as_one_of_its_messages_does() {
        let waiting = Waiting::default();
        let (first, second) = (waiting.note("a"), waiting.note("a"));
        drop(first);
        assert!(waiting.has("a") && !waiting.has("b"));
        drop(second);
        assert!(!waiting.has("a"));
    }
}
