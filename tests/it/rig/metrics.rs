//! What `/metrics` says, parsed from the text format.

use std::collections::BTreeMap;

/// One scrape.
pub(crate) struct Metrics {
    /// The scrape as it came.
    pub(crate) text: String,
    samples: Vec<Sample>,
}

struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Parses a scrape; panics at a line that is not of the format.
    pub(crate) fn parse(text: String) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| Sample::parse(line).unwrap_or_else(|| panic!("no metric line: {line}")))
            .collect();
        Self { text, samples }
    }

    /// The sum of the samples of `eko_worker_<name>` with these labels; `None` where there is none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let name = format!("eko_worker_{name}");
        self.samples
            .iter()
            .filter(|sample| sample.name == name && sample.has(labels))
            .map(|sample| sample.value)
            .reduce(|a, b| a + b)
    }

    /// As [`Self::sum`], where the sample must be there.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.sum(name, labels)
            .unwrap_or_else(|| panic!("no sample {name} {labels:?} in\n{}", self.text))
    }

    /// Whether any sample has this full name.
    pub(crate) fn has(&self, full_name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == full_name)
    }
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        let labels = labels
            .split_terminator("\",")
            .map(|pair| {
                let (name, value) = pair.split_once("=\"")?;
                Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
            })
            .collect::<Option<_>>()?;
        Some(Self { name: name.to_owned(), labels, value: value.parse().ok()? })
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(*name).is_some_and(|is| is == value))
    }
}
