//! A wall clock for one process that can step, by libfaketime. Its monotonic clock goes on.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::worker::Settings;

/// The clock.
pub(crate) struct Clock {
    library: String,
    file: PathBuf,
}

impl Clock {
    /// A clock that goes right; `None`, said loudly, where libfaketime is missing.
    pub(crate) fn new(file: PathBuf) -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/faketime");
        let output = Command::new(script).arg("path").stderr(Stdio::inherit()).output().unwrap();
        if !output.status.success() {
            eprintln!("!!! SKIPPED: a clock that steps: there is no libfaketime");
            return None;
        }
        let library = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let clock = Self { library, file };
        clock.step_to(0);
        Some(clock)
    }

    /// These settings for a process that goes by it.
    pub(crate) fn of(&self, settings: &Settings) -> Settings {
        let mut settings = settings.clone();
        let file = self.file.display().to_string();
        settings.extend(
            [
                ("LD_PRELOAD", self.library.as_str()),
                ("FAKETIME_TIMESTAMP_FILE", &file),
                ("FAKETIME_NO_CACHE", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        settings
    }

    /// Steps, so that it is so many seconds ahead of the true time, or behind it.
    pub(crate) fn step_to(&self, seconds: i64) {
        // The process may read it at any moment.
        let new: &Path = &self.file.with_extension("new");
        std::fs::write(new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }
}
