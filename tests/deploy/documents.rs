//! The documents: their links lead somewhere, and no dependency is without its line of why.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{files, read, root};

/// Every Markdown file of the root and of docs/, with its text.
fn documents() -> BTreeMap<String, String> {
    let mut found = files("docs");
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".md") {
            found.insert(name.clone(), read(&name));
        }
    }
    found.retain(|name, _| name.ends_with(".md"));
    found
}

/// What stands outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The anchors of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let is_kept = |c: &char| c.is_alphanumeric() || ['-', '_', ' '].contains(c);
    prose(text)
        .filter_map(|line| line.strip_prefix('#'))
        .map(|title| title.trim_start_matches('#').trim().to_lowercase())
        .map(|title| title.chars().filter(is_kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let documents = documents();
    let mut followed = 0;
    for (path, text) in &documents {
        let folder = Path::new(path).parent().unwrap();
        let links = prose(text).flat_map(|line| line.split("](").skip(1));
        for link in links.map(|rest| rest.split(')').next().unwrap()) {
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { path.into() } else { folder.join(file) };
            let place = root().join(&file).canonicalize();
            let place = place.unwrap_or_else(|error| panic!("{path}: {link}: {error}"));
            if !anchor.is_empty() {
                let text = fs::read_to_string(place).unwrap();
                assert!(
                    anchors(&text).contains(anchor),
                    "{path}: {link}: there is no such heading"
                );
            }
            followed += 1;
        }
    }
    assert!(followed > 100, "{followed}");
}

/// The dependencies that a Cargo.toml names, but those of this repository.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut is_table = false;
    let mut found = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_table = line.ends_with("dependencies]");
        } else if is_table && !line.starts_with(['#', ' ', '}']) {
            found.extend(line.split([' ', '=', '.']).next().filter(|name| !name.is_empty()));
        }
    }
    found.retain(|name| !name.starts_with("eko-"));
    found
}

#[test]
fn every_direct_dependency_has_its_line_of_why() {
    let why = read("docs/decisions/0020-dependencies.md");
    let crates = fs::read_dir(root().join("crates")).into_iter().flatten();
    let places = crates.map(|entry| entry.unwrap().path()).chain([root()]);
    let mut seen = 0;
    for place in places {
        let manifest = fs::read_to_string(place.join("Cargo.toml")).unwrap();
        for name in dependencies(&manifest) {
            assert!(why.contains(&format!("`{name}`")), "{}: {name}", place.display());
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}
