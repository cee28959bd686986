//! The rules of the house, checked on the source itself: who may import whom, and which room
//! alone may touch a library of the world outside.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms without I/O, clock and chance.
const CORE: [&str; 12] = [
    "backoff", "clock", "command", "decision", "event", "history", "json", "order", "outcome",
    "privacy", "trace", "verdict",
];

/// Rooms that reach the world, and never each other.
const EDGES: [&str; 3] = ["broker", "eko", "ledger"];

/// What all of them may use: how addresses, secrets and certificates are taken.
const SHARED: [&str; 3] = ["addresses", "credential", "pem"];

/// A library, and the only room that may name it.
const OWNERS: [(&str, &str); 12] = [
    ("axum", "admin"),
    ("backoff", "backoff"),
    ("governor", "gate"),
    ("lapin", "broker"),
    ("opentelemetry", "otel"),
    ("opentelemetry_otlp", "otel"),
    ("opentelemetry_sdk", "otel"),
    ("prometheus", "metrics"),
    ("reqwest", "eko"),
    ("rusqlite", "ledger"),
    ("sd_notify", "systemd"),
    ("tokio_postgres", "ledger"),
];

struct Source {
    path: PathBuf,
    room: String,
    text: String,
}

/// Every source file of the library but tests and benches.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let room = name.split(['/', '.']).next().unwrap().to_owned();
            let is_other = ["bin", "house", "model", "bench", "instructions"]
                .contains(&room.as_str())
                || path.file_name().is_some_and(|name| name == "tests");
            if path.is_dir() && !is_other {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.ends_with("tests.rs") && !is_other {
                let text = code_of(&fs::read_to_string(&path).unwrap());
                sources.push(Source { path, room, text });
            }
        }
    }
    sources
}

/// The lines of code before a file's tests, without comments.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    code.lines().filter(is_code).collect::<Vec<_>>().join("\n")
}

/// The rooms that a file imports: `crate::room` and the first names in `crate::{…}`.
fn imported(text: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for part in text.split("crate::").skip(1) {
        let names = match part.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap().split(',').collect(),
            None => vec![part],
        };
        for name in names {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            rooms.push(name.trim().chars().take_while(|c| is_name(*c)).collect());
        }
    }
    rooms
}

#[test]
fn a_core_room_imports_only_core_rooms() {
    for source in sources().iter().filter(|source| CORE.contains(&source.room.as_str())) {
        for room in imported(&source.text) {
            assert!(CORE.contains(&room.as_str()), "{}: {room}", source.path.display());
        }
    }
}

#[test]
fn the_rooms_that_reach_the_world_never_import_each_other() {
    for source in sources().iter().filter(|source| EDGES.contains(&source.room.as_str())) {
        for room in imported(&source.text) {
            let is_known = [&CORE[..], &SHARED[..]].concat().contains(&room.as_str());
            assert!(room == source.room || is_known, "{}: {room}", source.path.display());
        }
    }
}

#[test]
fn only_its_owner_names_a_library() {
    for source in sources() {
        for (library, owner) in OWNERS {
            let is_named = source.text.contains(&format!("{library}::"))
                && !source.text.contains(&format!("crate::{library}::"));
            // The admin server names Prometheus' content type.
            let is_known = (library, source.room.as_str()) == ("prometheus", "admin");
            assert!(
                !is_named || source.room == owner || is_known,
                "{}: {library}",
                source.path.display()
            );
        }
    }
}

/// Where a reader has gone away or a disk is full, `println!` panics.
#[test]
fn nothing_is_printed_by_a_macro_that_panics() {
    for source in sources() {
        assert!(
            !source.text.contains("print!(") && !source.text.contains("println!("),
            "{}",
            source.path.display()
        );
    }
}

#[test]
fn only_the_settings_read_the_environment() {
    for source in sources().iter().filter(|source| source.room != "config") {
        assert!(!source.text.contains("std::env::"), "{}", source.path.display());
    }
}

#[test]
fn no_file_is_longer_than_a_room_should_be() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(lines <= 350, "{}: {lines} lines of code", source.path.display());
    }
}

#[test]
fn the_checks_see_what_they_look_for() {
    let text = "use crate::{ledger, metrics};\nuse crate::outcome::Code;\n";
    assert_eq!(imported(text), ["ledger", "metrics", "outcome"]);
    assert!(sources().len() > 30);
}
