//! What `docs/` has of the contract for machines and of the settings is what the program prints.

use std::collections::BTreeSet;
use std::process::Command;
use std::{env, fs};

use jsonschema::Validator;
use serde_json::Value;

use super::{WORKER, is_name, page, read, root};

const KINDS: [&str; 3] = ["refund_otp", "refund", "transfer_otp"];
const OUTCOMES: [&str; 6] = ["succeeded", "rejected", "failed", "expired", "unresolved", "invalid"];

/// What the program prints.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(WORKER).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The schema of a kind's commands or events, by itself.
fn alone(part: &str, kind: &str) -> Value {
    serde_json::from_str(&printed(&["schema", part, kind])).unwrap()
}

fn asyncapi() -> Value {
    serde_json::from_str(&printed(&["schema", "asyncapi"])).unwrap()
}

/// Holds a file against what it should be, or makes it so with `UPDATE=1`.
fn is_kept(path: &str, expected: &str) {
    if env::var_os("UPDATE").is_some() {
        fs::create_dir_all(root().join(path).parent().unwrap()).unwrap();
        fs::write(root().join(path), expected).unwrap();
    }
    assert!(
        read(path) == expected,
        "{path} is not what the program says: UPDATE=1 cargo test --test deploy"
    );
}

/// The types of all events.
fn event_types() -> Vec<String> {
    let of_kind = |kind| OUTCOMES.map(|outcome| format!("eko.{kind}.{outcome}"));
    KINDS.iter().flat_map(of_kind).chain(["eko.command.invalid".to_owned()]).collect()
}

fn validator(schema: &Value) -> Validator {
    jsonschema::options().should_validate_formats(true).build(schema).unwrap()
}

#[test]
fn the_schemas_are_those_of_the_program() {
    let mut paths = BTreeSet::new();
    let kinds = KINDS.map(|kind| ("command", kind)).into_iter();
    for (part, kind) in kinds.chain(KINDS.map(|kind| ("event", kind))).chain([("event", "command")])
    {
        let path = format!("docs/schemas/{part}.{kind}.json");
        is_kept(&path, &printed(&["schema", part, kind]));
        paths.insert(path);
    }
    let kept: BTreeSet<_> = super::files("docs/schemas").into_keys().collect();
    assert_eq!(kept, paths);
}

#[test]
fn the_asyncapi_document_and_its_page_are_those_of_the_program() {
    is_kept("docs/asyncapi.json", &printed(&["schema", "asyncapi"]));
    is_kept("docs/asyncapi.html", &page::of(&asyncapi()));
}

#[test]
fn the_asyncapi_document_has_the_schemas_that_stand_beside_it() {
    let document = asyncapi();
    let embedded = |name: &str| {
        let schema = document["components"]["schemas"][name]["schema"].clone();
        assert!(schema.is_object(), "{name}");
        schema
    };
    for kind in KINDS {
        let alone = alone("command", kind);
        assert_eq!(embedded(&format!("eko.{kind}.request")), alone);
    }
    for name in event_types() {
        let kind = name.split('.').nth(1).unwrap();
        let alone = alone("event", kind);
        let mut embedded = embedded(&name);
        embedded.as_object_mut().unwrap().remove("$schema");
        assert!(alone["oneOf"].as_array().unwrap().contains(&embedded), "{name}");
    }
}

#[test]
fn every_command_and_every_event_has_an_example_that_keeps_to_its_own_schema_only() {
    let document = asyncapi();
    let requests = KINDS.map(|kind| format!("eko.{kind}.request"));
    let names: Vec<_> = requests.into_iter().chain(event_types()).collect();
    let messages = &document["components"]["messages"];
    // and one that is a command as it came, of which nothing can be said
    assert_eq!(messages.as_object().unwrap().len(), names.len() + 1);
    for name in &names {
        let message = &messages[name];
        let reference = format!("#/components/schemas/{name}/schema");
        assert_eq!(message["payload"]["schema"]["$ref"], reference.as_str());
        let examples = message["examples"].as_array().unwrap();
        assert!(!examples.is_empty(), "{name}");
        for other in &names {
            let schema = &document["components"]["schemas"][other]["schema"];
            for example in examples {
                let is_valid = validator(schema).is_valid(&example["payload"]);
                assert_eq!(is_valid, name == other, "{name} by {other}: {example:#}");
            }
        }
    }
}

#[test]
fn every_reference_of_the_asyncapi_document_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = asyncapi();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn the_page_shows_every_message_and_needs_nothing_else() {
    let page = page::of(&asyncapi());
    for name in event_types() {
        assert!(page.contains(&format!("id=\"{name}\"")), "{name}");
    }
    for outside in ["http://", "https://", "<script", "src="] {
        let known = page.replace("http://json-schema.org", "");
        assert!(!known.contains(outside), "{outside}");
    }
}

#[test]
fn the_settings_page_and_the_sample_are_those_of_the_program() {
    is_kept("docs/configuration.md", &printed(&["config", "--markdown"]));
    is_kept(".env.example", &printed(&["config", "--env-example"]));
}

#[test]
fn the_settings_page_and_the_sample_name_every_setting() {
    let (page, sample) =
        (printed(&["config", "--markdown"]), printed(&["config", "--env-example"]));
    let known = super::settings::known_settings();
    assert!(known.len() > 30, "{known:?}");
    let named: BTreeSet<String> = sample
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.chars().all(is_name))
        .collect();
    for name in &known {
        assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/configuration.md");
        let plain = name.trim_end_matches("_FILE");
        let is_named =
            [name, plain, &format!("{name}_FILE")].iter().any(|&name| named.contains(name));
        assert!(is_named, "{name} is not in .env.example");
    }
    assert!(named.is_subset(&known), "{named:?}");
}

#[test]
fn completions_and_manual_know_every_subcommand() {
    let help = printed(&["--help"]);
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names: Vec<_> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"run") && names.contains(&"completions"), "{names:?}");
    let manual = printed(&["man"]).replace('\\', "");
    let scripts = ["bash", "zsh", "fish"].map(|shell| printed(&["completions", shell]));
    for name in names {
        assert!(manual.contains(&format!("eko-worker-{name}(1)")), "{name}: {manual}");
        for script in &scripts {
            assert!(script.contains(name), "{name}");
        }
        assert!(printed(&["man", name]).contains(".SH SYNOPSIS"), "{name}");
    }
}
