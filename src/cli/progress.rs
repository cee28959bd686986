//! How far long work has come, for whoever sits at a terminal.

use std::io::{IsTerminal as _, Write as _};

/// Every so many steps are shown: a terminal is slower than the broker.
const STEP: u32 = 25;

/// One line on standard error that is written anew; none where that is no terminal.
pub(super) struct Progress {
    is_shown: bool,
    what: &'static str,
    total: u32,
    done: u32,
}

impl Progress {
    pub(super) fn new(what: &'static str, total: u32) -> Self {
        Self { is_shown: std::io::stderr().is_terminal(), what, total, done: 0 }
    }

    /// One more is done.
    pub(super) fn step(&mut self) {
        self.done = self.done.saturating_add(1);
        if self.is_shown && self.done.is_multiple_of(STEP) {
            self.write(&format!("{}: {} of {}", self.what, self.done, self.total));
        }
    }

    /// What takes a while now.
    pub(super) fn at(&self, what: &str) {
        if self.is_shown {
            self.write(&format!("{} of {}: {what}", self.done, self.total));
        }
    }

    /// Takes the line away, so that something else can be written.
    pub(super) fn clear(&self) {
        if self.is_shown {
            self.write("");
        }
    }

    fn write(&self, text: &str) {
        let mut stderr = std::io::stderr();
        // A terminal that has gone away is no reason to stop.
        write!(stderr, "\r\x1b[2K{text}").and_then(|()| stderr.flush()).ok();
    }
}
