//! What was measured, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// One figure of a run.
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) digits: usize,
    pub(crate) compared: Compared,
}

/// How the figures of two workers are compared.
#[derive(Clone, Copy)]
pub(crate) enum Compared {
    ByRatio,
    ByDifference,
}

/// All runs of one scenario.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) columns: &'static [Column],
    /// A worker's name, and its figures by round.
    pub(crate) runs: Vec<(String, Vec<Vec<f64>>)>,
}

impl Table {
    /// Medians of the rounds and, below them, each worker against the ones before it: the
    /// medians of what was compared within a round, since machines change from round to round.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("\n{}\n\n|", self.title);
        for column in self.columns {
            write!(text, " | {}", column.name).ok();
        }
        writeln!(text, " |\n| ---{} |", " | ---:".repeat(self.columns.len())).ok();
        for (name, figures) in self.medians() {
            writeln!(text, "| {name}{} |", self.cells(&figures, false)).ok();
        }
        for (name, figures) in self.comparisons() {
            writeln!(text, "| *{name}*{} |", self.cells(&figures, true)).ok();
        }
        text
    }

    /// The same, and every run of it.
    pub(crate) fn json(&self) -> Value {
        let object = |rows: Vec<(String, Vec<f64>)>| -> Value {
            rows.into_iter().map(|(name, figures)| (name, json!(figures))).collect()
        };
        let runs: Value =
            self.runs.iter().map(|(name, runs)| (name.clone(), json!(runs))).collect();
        json!({
            "title": self.title,
            "columns": self.columns.iter().map(|column| column.name).collect::<Vec<_>>(),
            "medians": object(self.medians()),
            "compared": object(self.comparisons()),
            "runs": runs,
        })
    }

    fn medians(&self) -> Vec<(String, Vec<f64>)> {
        let of = |runs: &Vec<Vec<f64>>| {
            let by_column = |n| median(runs.iter().map(|run| run[n]).collect());
            (0..self.columns.len()).map(by_column).collect()
        };
        self.runs.iter().map(|(name, runs)| (name.clone(), of(runs))).collect()
    }

    fn comparisons(&self) -> Vec<(String, Vec<f64>)> {
        let mut all = Vec::new();
        for (n, (name, runs)) in self.runs.iter().enumerate() {
            for (other, others) in &self.runs[..n] {
                let compared = |n: usize| {
                    let pairs = runs.iter().zip(others).map(|(run, other)| (run[n], other[n]));
                    median(pairs.map(|pair| self.columns[n].compared.of(pair)).collect())
                };
                let figures = (0..self.columns.len()).map(compared).collect();
                all.push((format!("{name} to {other}"), figures));
            }
        }
        all
    }

    fn cells(&self, figures: &[f64], is_comparison: bool) -> String {
        let cell = |(column, figure): (&Column, &f64)| match (is_comparison, column.compared) {
            (false, _) => format!(" | {figure:.*}", column.digits),
            (true, Compared::ByRatio) => format!(" | × {figure:.2}"),
            (true, Compared::ByDifference) => format!(" | {figure:+.*}", column.digits),
        };
        self.columns.iter().zip(figures).map(cell).collect()
    }
}

impl Compared {
    fn of(self, (one, other): (f64, f64)) -> f64 {
        match self {
            Self::ByRatio => one / other,
            Self::ByDifference => one - other,
        }
    }
}

/// The smallest figure that so many percent of all do not exceed.
pub(crate) fn percentile(figures: &[f64], percent: usize) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or(f64::NAN)
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let half = figures.len() / 2;
    match figures.get(half.saturating_sub(1)..=half) {
        Some(&[below, above]) if figures.len().is_multiple_of(2) => (below + above) / 2.0,
        Some(&[.., middle]) => middle,
        _ => f64::NAN,
    }
}
