//! Spans of a command's trace, for an OpenTelemetry collector.
//!
//! A delivery's journey is a span (consumer), each call of Eko one below it (client), and so is
//! the event that tells the outcome (producer). Built with the feature `otel`, they are exported
//! once `OTEL_EXPORTER_OTLP_ENDPOINT` is set; until then, and without the feature, a [`Span`] is
//! nothing, and what would describe it is not even made.

#[cfg(feature = "otel")]
mod export;
#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod spans;

use std::time::Duration;

use url::Url;

use crate::trace::Trace;

#[cfg(not(feature = "otel"))]
pub(crate) use off::{Span, Tracer};
#[cfg(feature = "otel")]
pub(crate) use spans::{Span, Tracer};

/// How long the last spans may take at the end of the process: a collector that does not answer
/// keeps nobody waiting.
#[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "only an exporter has an end"))]
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// Where a span stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its trace.
    pub(crate) trace_id: u128,
    /// The span itself.
    pub(crate) span_id: u64,
    /// Whether it is exported.
    pub(crate) is_sampled: bool,
}

/// What a delivery says of itself.
#[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "nothing reads it"))]
pub(crate) struct Received<'a> {
    /// Where it came from.
    pub(crate) queue: String,
    /// The command's kind, or `unknown`.
    pub(crate) kind: &'static str,
    /// The command's id, where it has one.
    pub(crate) command_id: Option<&'a str>,
    /// Who published it.
    pub(crate) parent: Option<&'a Trace>,
    /// The journey that parked it, if it was parked.
    pub(crate) previous: Option<Trace>,
    /// How often Eko was called for it before.
    pub(crate) attempts: u32,
    /// How often it was parked.
    pub(crate) parked: u32,
}

/// One call of Eko.
#[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "nothing reads it"))]
pub(crate) struct Call {
    /// The method.
    pub(crate) method: &'static str,
    /// The endpoint's word.
    pub(crate) endpoint: &'static str,
    /// The address, without its query, which holds the initiator's number.
    pub(crate) url: Url,
    /// The how manieth attempt of the command it is, from 1; none for an inquiry.
    pub(crate) attempt: Option<u32>,
}

/// One event that is published.
#[cfg_attr(not(feature = "otel"), expect(dead_code, reason = "nothing reads it"))]
pub(crate) struct Publish<'a> {
    /// The exchange.
    pub(crate) exchange: String,
    /// The span that published it before, where this is a repeat.
    pub(crate) previous: Option<Trace>,
    /// The command's id.
    pub(crate) command_id: &'a str,
}
