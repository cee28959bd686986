//! The dashboard says what it shows, and fits on the page.

use std::collections::BTreeSet;

use serde_json::Value;

use super::read;

/// The dashboard, parsed.
pub(crate) fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/eko-worker.json")).unwrap()
}

/// What a panel asks Prometheus for.
pub(crate) fn expressions(panel: &Value) -> Vec<&str> {
    let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
    targets.iter().map(|target| target["expr"].as_str().unwrap()).collect()
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit_and_from_where() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for (x, y) in (at("x")..at("x") + at("w"))
            .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(x < 24 && cells.insert((x, y)), "{title} lies on another or beyond the edge");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            panel["description"].as_str().is_some_and(|text| text.len() > 10),
            "{title}: no description"
        );
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: no unit");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(!expressions(panel).is_empty(), "{title} shows nothing");
        for expression in expressions(panel) {
            let is_fixed = expression.contains("rate(") && !expression.contains("rate(eko_worker:");
            assert!(
                !is_fixed || expression.contains("[$__rate_interval]"),
                "{title}: {expression}"
            );
            assert!(
                !expression.contains("histogram_quantile") || expression.contains("by (le"),
                "{title}: {expression}"
            );
        }
    }
    assert!(dashboard["uid"].is_null() && dashboard["id"].is_null(), "an id of one Grafana");
    for row in ["Is it healthy?", "Traffic", "Latency", "Eko", "Retries", "Broker", "Process"] {
        let is_row = |panel: &&Value| {
            panel["type"] == "row" && panel["title"].as_str().unwrap().starts_with(row)
        };
        assert!(panels.iter().any(|panel| is_row(&panel)), "no row {row}");
    }
}
