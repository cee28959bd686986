//! Metrics that rules, dashboard and runbook name are those that a worker shows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::dashboard::{dashboard, expressions};
use super::{WORKER, files, is_name, read, values};

/// The metrics that a worker shows at its start, each with its labels and their values.
struct Shown(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Shown {
    /// Starts a worker that finds no broker: it waits, and shows all metrics at 0 meanwhile.
    fn by_a_worker() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut worker = Command::new(WORKER)
            .arg("run")
            .current_dir(&folder)
            .envs([
                ("AMQP_URL", "amqp://127.0.0.1:1/%2f"),
                ("ADMIN_ADDR", "127.0.0.1:0"),
                ("LOG_FORMAT", "json"),
            ])
            .envs([("EKO_DEVELOPER_KEY", "developer"), ("EKO_ACCESS_KEY", "access")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = worker.stderr.take().unwrap();
        let address = BufReader::new(stderr).lines().find_map(|line| {
            let line: Value = serde_json::from_str(&line.unwrap()).ok()?;
            let is_address = line["message"] == "admin server listening";
            is_address.then(|| line["addr"].as_str().unwrap().to_owned())
        });
        // What the ledger counts is shown once it is open.
        let has_ledger = |text: &String| text.contains("\neko_worker_ledger_up 1\n");
        let text = address.and_then(|address| {
            let mut texts = (0..100).map(|_| {
                std::thread::sleep(Duration::from_millis(50));
                get(&address, "/metrics")
            });
            texts.find(has_ledger)
        });
        worker.kill().unwrap();
        worker.wait().unwrap();
        let text =
            text.expect("the worker says where its admin server listens, and opens its ledger");
        Self::in_text(&text)
    }

    fn in_text(text: &str) -> Self {
        let mut shown: BTreeMap<_, BTreeMap<_, BTreeSet<_>>> = BTreeMap::new();
        for line in text
            .lines()
            .filter(|line| line.starts_with("eko_worker_") || line.starts_with("process_"))
        {
            let (name, rest) = line.split_at(line.find(|c| !is_name(c)).unwrap());
            let labels = shown.entry(name.to_owned()).or_default();
            for (label, _, value) in matchers(rest) {
                labels.entry(label.to_owned()).or_default().insert(value.to_owned());
            }
        }
        Self(shown)
    }

    /// What is wrong with each selector in a text: an unknown metric, label or value.
    fn wrong(&self, text: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, rest) in selectors(text) {
            let Some(labels) = self.0.get(name) else {
                wrong.push(format!("there is no metric {name}"));
                continue;
            };
            for (label, operator, value) in matchers(rest) {
                let is_prometheus_own = ["job", "instance", "le"].contains(&label);
                let values =
                    if operator.contains('~') { value.split('|').collect() } else { vec![value] };
                for value in values {
                    // A prefix may be any: the setting says which.
                    let is_known =
                        |known: &BTreeSet<String>| known.contains(value) || label == "prefix";
                    if !is_prometheus_own && !labels.get(label).is_some_and(is_known) {
                        wrong.push(format!("{name} has no {label}=\"{value}\""));
                    }
                }
            }
        }
        wrong
    }
}

/// Each metric of ours that a text names, and the text behind it.
fn selectors(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let starts = text.match_indices("eko_worker_").chain(text.match_indices("process_"));
    let is_start = |at: &usize| !text[..*at].ends_with(is_name);
    starts.map(|(at, _)| at).filter(is_start).map(|at| {
        let end = text[at..].find(|c| !is_name(c)).map_or(text.len(), |length| at + length);
        (&text[at..end], &text[end..])
    })
}

/// The label, operator and value of each matcher in `{…}` right at the begin of a text.
fn matchers(text: &str) -> Vec<(&str, &str, &str)> {
    let Some(inside) = text.strip_prefix('{').and_then(|rest| rest.split('}').next()) else {
        return Vec::new();
    };
    let mut parts = inside.split('"');
    let mut found = Vec::new();
    while let (Some(before), Some(value)) = (parts.next(), parts.next()) {
        let before = before.trim_start_matches([',', ' ']);
        let (label, operator) = before.split_at(before.find(|c| !is_name(c)).unwrap());
        found.push((label, operator, value));
    }
    found
}

/// The answer to a GET, head and all.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn every_metric_that_rules_dashboard_and_papers_name_is_one_that_the_worker_shows() {
    let shown = Shown::by_a_worker();
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let drawn = panels.iter().flat_map(expressions).collect::<Vec<_>>().join("\n");
    let mut texts = vec![("the dashboard".to_owned(), drawn)];
    let paths = ["alerts", "recording", "alerts_test", "alerts_slow_test", "alerts_accounts_test"]
        .map(|name| format!("deploy/prometheus/{name}.yml"));
    for path in paths.into_iter().chain(["docs/runbook.md".to_owned()]) {
        let text = read(&path);
        texts.push((path, text));
    }
    for (path, text) in texts {
        let named = selectors(&text).count();
        assert!(named > 0, "{path} names no metric");
        let wrong = shown.wrong(&text);
        assert!(wrong.is_empty(), "{path}: {wrong:#?}");
    }
}

#[test]
fn every_recorded_name_that_is_used_is_recorded() {
    let text = read("deploy/prometheus/recording.yml");
    let recorded = values(&text, "record:");
    for (path, text) in files("deploy") {
        for part in text.split("eko_worker:").skip(1) {
            let name: String = part.chars().take_while(|c| is_name(*c) || *c == ':').collect();
            assert!(
                recorded.contains(&format!("eko_worker:{name}").as_str()),
                "{path}: eko_worker:{name}"
            );
        }
    }
}

#[test]
fn the_checks_see_what_they_look_for() {
    let shown = Shown::in_text(
        "eko_worker_paused{kind=\"refund\",reason=\"clock\"} 0\nprocess_threads 5\n",
    );
    assert_eq!(
        shown.wrong("max(eko_worker_paused{kind=\"refund\", job=~\"$job\"}) + process_threads"),
        Vec::<String>::new()
    );
    assert_eq!(shown.wrong("eko_worker_pause > 1"), ["there is no metric eko_worker_pause"]);
    assert_eq!(
        shown.wrong("eko_worker_paused{kind=~\"refund|x\"}"),
        ["eko_worker_paused has no kind=\"x\""]
    );
    assert_eq!(
        shown.wrong("eko_worker_paused{code=\"clock\"}"),
        ["eko_worker_paused has no code=\"clock\""]
    );
}
