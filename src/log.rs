//! The log: one subscriber, text for people or JSON for machines.

use std::io;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, FilterFn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

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
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = match format {
        Format::Text => lines.with_target(false).boxed(),
        Format::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
    };
    let started =
        tracing_subscriber::registry().with(filter).with(FilterFn::new(may_show)).with(lines);
    // A second start in one process keeps the first one's subscriber.
    drop(started.try_init());
    Ok(())
}

/// Whatever `RUST_LOG` asks for: below a warning, the libraries of the wire print the frames
/// and bodies that they carry, OTPs and keys included.
fn may_show(line: &Metadata<'_>) -> bool {
    line.target().starts_with("eko_worker") || *line.level() <= Level::WARN
}
