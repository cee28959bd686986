//! The log: one subscriber, text for people or JSON for machines.

use std::io;

use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For a person at a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged unless `RUST_LOG` says otherwise. lapin logs each failed connection itself,
/// where our own line says more.
const DEFAULT_FILTER: &str = "info,lapin=off";

/// Starts logging to standard error. `filter` is `RUST_LOG`.
///
/// # Errors
/// Where the filter cannot be read.
pub(crate) fn start(format: Format, filter: Option<&str>) -> Result<(), String> {
    let filter = filter.filter(|filter| !filter.is_empty()).unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("RUST_LOG: {error}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
    };
    // A second start in one process keeps the first one's subscriber.
    drop(started);
    Ok(())
}
