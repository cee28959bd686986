//! What `deploy/` and the runbook say of the program, held against the program and each other: settings, metrics,
//! alerts, times. Whether the tools that read these files understand them is `scripts/deploy-test`'s matter.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "UPDATE=1 is no setting of the worker")]

mod alerts;
mod contracts;
mod dashboard;
mod documents;
mod metrics;
mod package;
mod page;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// The program itself.
const WORKER: &str = env!("CARGO_BIN_EXE_eko-worker");

/// The repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A file of it.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file below a folder, by its path, with its text.
fn files(folder: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                found.insert(path.strip_prefix(root()).unwrap().display().to_string(), text);
            }
        }
    }
    assert!(!found.is_empty(), "{folder} is empty");
    found
}

/// What follows each `key` at the begin of a line, list marks aside.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let line = |line: &'a str| line.trim_start().trim_start_matches("- ").strip_prefix(key);
    text.lines().filter_map(line).map(str::trim).collect()
}

/// Whether names of settings, metrics and labels may have it.
fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

#[test]
fn a_value_is_what_follows_its_key_at_the_begin_of_a_line() {
    assert_eq!(values("a: 1\n  - a: 2\n# a: 3", "a:"), ["1", "2"]);
}
