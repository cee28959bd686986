//! What the .deb takes beside the program: manual pages and completions, as the program writes them.

use std::fs;
use std::process::Command;

use super::{WORKER, read, root};

/// The files that cargo-deb takes, as Cargo.toml names them.
fn assets(manifest: &str) -> Vec<&str> {
    let table = manifest.split("\nassets = [").nth(1).unwrap().split("\n]").next().unwrap();
    table.lines().filter_map(|line| line.trim().strip_prefix("[\"")?.split('"').next()).collect()
}

/// The subcommands that the program's help lists.
fn subcommands(help: &str) -> Vec<&str> {
    let table = help.split("\nCommands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    // a long description goes on in lines that are indented further
    let names = table.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").collect()
}

#[test]
fn the_package_has_a_manual_page_of_each_subcommand_and_completions() {
    let script = root().join("scripts/package");
    let made = Command::new(script).arg("manuals").env("EKO_WORKER", WORKER).status().unwrap();
    assert!(made.success(), "{made}");
    let help = Command::new(WORKER).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let names = subcommands(&help);
    assert!(names.contains(&"run") && names.contains(&"man"), "{names:?}");
    for name in names {
        let page = read(&format!("target/package/man/eko-worker-{name}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
    }
    let manifest = read("Cargo.toml");
    let assets = assets(&manifest);
    assert!(assets.contains(&"target/package/man/*.1"), "{assets:?}");
    for asset in assets.into_iter().filter(|path| !path.starts_with("target/release/")) {
        let path = asset.replace('*', "eko-worker");
        let size = fs::metadata(root().join(path)).map(|file| file.len());
        assert!(size.is_ok_and(|size| size > 0), "{asset} is missing or empty");
    }
}
