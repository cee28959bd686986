//! The AsyncAPI document as one page for people, without scripts and without anything from elsewhere: the
//! usual renderer would be three megabytes of somebody else's JavaScript in this repository.

use serde_json::Value;

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>eko-worker: the contract</title>
<style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
h3 { margin-top: 2.5rem; } h3, code, pre { font-family: ui-monospace, monospace; } code, pre { font-size: .875em; }
pre, nav { background: var(--soft); padding: .75rem; border-radius: .5rem; overflow-x: auto; }
nav a { display: inline-block; margin-right: 1rem; }
table { border-collapse: collapse; width: 100%; } td, th { border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: left; vertical-align: top; }
td:first-child { white-space: nowrap; } td { overflow-wrap: anywhere; } summary { cursor: pointer; }
@media (max-width: 40rem) { table, tbody, tr, td { display: block; } th { display: none; } tr { border-bottom: 1px solid var(--line); padding: .3rem 0; } td { border: 0; padding: .1rem 0; } td:first-child { white-space: normal; } }
</style>
"#;

/// The whole page.
pub(super) fn of(document: &Value) -> String {
    let info = &document["info"];
    let mut page = HEAD.to_owned();
    page += &format!("<h1>{} {}</h1>\n", escaped(&info["title"]), escaped(&info["version"]));
    for paragraph in text(&info["description"]).split("\n\n") {
        page += &format!("<p>{}</p>\n", prose(paragraph));
    }
    page += "<p>Made of <code>asyncapi.json</code>; <code>eko-worker schema</code> prints schemas and document of any version.</p>\n";
    let messages = document["components"]["messages"].as_object().unwrap();
    // What a reader writes comes before what a reader reads.
    let mut names: Vec<_> = messages.keys().collect();
    names.sort_by_key(|name| (!name.ends_with(".request"), *name == "dead"));
    page += "<nav>\n";
    for name in &names {
        page += &format!("<a href=\"#{name}\">{name}</a>\n");
    }
    page += "</nav>\n<h2>Where</h2>\n<table><tr><th>address<th>on the broker<th></tr>\n";
    for (_, channel) in document["channels"].as_object().unwrap() {
        page += &row(channel);
    }
    page += "</table>\n";
    page += "<h2>Who does what</h2>\n<table><tr><th>the worker<th>channel<th></tr>\n";
    for (_, operation) in document["operations"].as_object().unwrap() {
        let channel = text(&operation["channel"]["$ref"]).rsplit('/').next().unwrap();
        page += &format!(
            "<tr><td>{}s<td><code>{channel}</code><td>{}</tr>\n",
            escaped(&operation["action"]),
            prose(text(&operation["summary"]))
        );
    }
    page += "</table>\n<h2>Messages</h2>\n";
    for name in names {
        let schema = &document["components"]["schemas"][name]["schema"];
        page += &section(name, &messages[name], schema);
    }
    page
}

/// One channel: its address, what that is, and its description.
fn row(channel: &Value) -> String {
    let binding = &channel["bindings"]["amqp"];
    let place = match text(&binding["is"]) {
        "queue" => format!("queue <code>{}</code>", escaped(&binding["queue"]["name"])),
        _ => format!(
            "routing key on the {} exchange <code>{}</code>",
            escaped(&binding["exchange"]["type"]),
            escaped(&binding["exchange"]["name"])
        ),
    };
    let (address, about) = (escaped(&channel["address"]), prose(text(&channel["description"])));
    format!("<tr><td><code>{address}</code><td>{place}<td>{about}</tr>\n")
}

fn section(name: &str, message: &Value, schema: &Value) -> String {
    let about = schema.get("description").unwrap_or_else(|| &message["summary"]);
    let mut section = format!("<h3 id=\"{name}\">{name}</h3>\n<p>{}</p>\n", prose(text(about)));
    for example in message["examples"].as_array().into_iter().flatten() {
        let payload = format!("{:#}", example["payload"]);
        section += &format!("<pre>{}</pre>\n", escape(&payload));
    }
    let mut rows = String::new();
    fields(&message["headers"], "header ", &mut rows);
    fields(schema, "", &mut rows);
    let head = "<tr><th>field<th>must be<th></tr>";
    section +=
        &format!("<details><summary>Fields</summary>\n<table>{head}\n{rows}</table></details>\n");
    section
}

/// A row for each field, those of objects below them.
fn fields(schema: &Value, prefix: &str, rows: &mut String) {
    let required = schema["required"].as_array();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let is_required = required.is_some_and(|required| required.contains(&name.as_str().into()));
        let mark = if is_required { "" } else { "?" };
        let (rule, about) = (rule(field), prose(text(&field["description"])));
        *rows += &format!("<tr><td><code>{prefix}{name}</code>{mark}<td>{rule}<td>{about}</tr>\n");
        fields(field, &format!("{prefix}{name}."), rows);
    }
}

/// What a field must be, in few words.
fn rule(field: &Value) -> String {
    let rules = |ways: &Value| {
        let ways = ways.as_array().into_iter().flatten().map(rule);
        ways.filter(|rule| rule != "null").collect::<Vec<_>>().join(" or ")
    };
    for ways in ["anyOf", "oneOf"] {
        if field.get(ways).is_some() {
            return rules(&field[ways]);
        }
    }
    if let Some(value) = field.get("const") {
        return format!("<code>{}</code>", escaped(value));
    }
    if let Some(values) = field["enum"].as_array() {
        let values: Vec<_> =
            values.iter().map(|value| format!("<code>{}</code>", escaped(value))).collect();
        return values.join(" ");
    }
    if let Some(known) = field["examples"].as_array() {
        let known: Vec<_> =
            known.iter().map(|value| format!("<code>{}</code>", escaped(value))).collect();
        return format!("a string such as {}", known.join(" "));
    }
    let name = match &field["type"] {
        Value::Array(names) => names.iter().find(|name| *name != "null").map(text),
        name => name.as_str(),
    };
    let name = name.unwrap_or("anything").to_owned();
    let more = match (&field["pattern"], &field["minimum"], &field["maximum"]) {
        (Value::String(pattern), ..) => format!(" like <code>{}</code>", escape(pattern)),
        (_, Value::Number(least), Value::Number(most)) => format!(" from {least} to {most}"),
        _ if field["format"] == "date-time" => " with an RFC 3339 time".to_owned(),
        _ if !field["maxLength"].is_null() => format!(" of 1 to {}", field["maxLength"]),
        _ => String::new(),
    };
    name + &more
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text with `code` in it.
fn prose(text: &str) -> String {
    let parts = text.split('`').map(escape).enumerate();
    let part = |(index, part)| match index % 2 {
        0 => part,
        _ => format!("<code>{part}</code>"),
    };
    parts.map(part).collect()
}

fn escaped(value: &Value) -> String {
    escape(value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
