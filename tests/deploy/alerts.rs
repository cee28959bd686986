//! Alerts, their tests, their sections of the runbook, and their second form for Kubernetes.

use std::collections::BTreeSet;
use std::{env, fs};

use super::{files, is_name, read, root, values};

/// Each alert and the address of its section.
fn alerts() -> Vec<(String, String)> {
    let text = read("deploy/prometheus/alerts.yml");
    let named = |part: &str| {
        let name = part.lines().next().unwrap().trim().to_owned();
        (name, values(part, "runbook_url:").concat())
    };
    let alerts: Vec<_> = text.split("- alert:").skip(1).map(named).collect();
    assert!(alerts.len() > 15, "{alerts:?}");
    alerts
}

#[test]
fn every_alert_has_its_section_of_the_runbook_and_every_section_its_alert() {
    let runbook = read("docs/runbook.md");
    let sections: Vec<&str> = values(&runbook, "## ");
    for (alert, url) in alerts() {
        assert!(sections.contains(&alert.as_str()), "the runbook says nothing of {alert}");
        assert!(url.ends_with(&format!("/runbook.md#{}", alert.to_lowercase())), "{alert}: {url}");
        let section = runbook.split(&format!("\n## {alert}\n")).nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        for part in ["**Means.**", "**Confirm.**", "**Do.**", "**Never.**"] {
            assert!(section.contains(part), "{alert}: {part} is missing");
        }
    }
    let names: Vec<String> = alerts().into_iter().map(|(name, _)| name).collect();
    for section in sections.iter().filter(|section| section.starts_with("EkoWorker")) {
        assert!(names.contains(&(*section).to_owned()), "no alert is called {section}");
    }
    assert!(runbook.contains("Never replay, re-publish or repeat a refund without an inquiry."));
}

#[test]
fn every_link_into_the_runbook_leads_somewhere() {
    let sections: BTreeSet<String> = values(&read("docs/runbook.md"), "## ")
        .into_iter()
        .map(|title| title.to_lowercase().replace(' ', "-"))
        .collect();
    let mut followed = 0;
    let texts = files("deploy")
        .into_iter()
        .chain(files("docs"))
        .chain([("README.md".into(), read("README.md"))]);
    for (path, text) in texts {
        let is_runbook = path == "docs/runbook.md";
        for part in text.split(if is_runbook { "(#" } else { "runbook.md#" }).skip(1) {
            let anchor: String = part.chars().take_while(|c| is_name(*c) || *c == '-').collect();
            assert!(sections.contains(&anchor), "{path}: #{anchor}");
            followed += 1;
        }
    }
    assert!(followed > 40, "{followed}");
}

#[test]
fn every_alert_is_seen_firing_and_seen_silent() {
    let tests = ["alerts_test.yml", "alerts_slow_test.yml"];
    let tests: String = tests.map(|file| read(&format!("deploy/prometheus/{file}"))).concat();
    for (alert, _) in alerts() {
        let cases: Vec<&str> = tests
            .split("alertname: ")
            .skip(1)
            .filter(|case| case.lines().next() == Some(&alert))
            .collect();
        let is_silent = |case: &&&str| values(case, "exp_alerts:").first() == Some(&"[]");
        assert!(cases.iter().any(|case| is_silent(&case)), "{alert} is never seen silent");
        assert!(cases.iter().any(|case| !is_silent(&case)), "{alert} is never seen firing");
    }
}

#[test]
fn kubernetes_gets_the_same_rules_as_prometheus() {
    let indent = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") };
    let rule = |name: &str| {
        let rules: String =
            read(&format!("deploy/prometheus/{name}.yml")).lines().map(indent).collect();
        let head = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: eko-worker-";
        format!("{head}{name}\nspec:\n{rules}")
    };
    let expected = [rule("recording"), rule("alerts")].join("---\n");
    let path = "deploy/k8s/components/monitoring/prometheusrule.yaml";
    if env::var_os("UPDATE").is_some() {
        fs::write(root().join(path), &expected).unwrap();
    }
    assert!(
        read(path) == expected,
        "{path} is not what deploy/prometheus says: UPDATE=1 cargo test --test deploy"
    );
}
