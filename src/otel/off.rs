//! Built without the feature `otel`: the same names, and nothing behind them.

use url::Url;

use super::{Call, Place, Publish, Received};

/// Makes no spans.
pub(crate) struct Tracer;

/// No span.
pub(crate) struct Span;

impl Tracer {
    /// Says so where an endpoint is set in vain.
    pub(crate) fn start(endpoint: Option<&Url>) -> anyhow::Result<Self> {
        if endpoint.is_some() {
            tracing::warn!(
                "OTEL_EXPORTER_OTLP_ENDPOINT is set, but this worker was built without the \
                 feature `otel`: no spans are exported"
            );
        }
        Ok(Self)
    }

    pub(crate) fn journey<'a>(&self, _: impl FnOnce() -> Received<'a>) -> Span {
        Span
    }

    #[expect(clippy::unused_async, reason = "with the feature, there is something to wait for")]
    pub(crate) async fn stop(&self) {}
}

impl Span {
    pub(crate) const fn place(&self) -> Option<Place> {
        None
    }

    pub(crate) fn call(&self, _: impl FnOnce() -> Call) -> Self {
        Self
    }

    pub(crate) const fn answered(self, _: Option<u16>, _: &'static str) {}

    pub(crate) fn publish<'a>(&self, _: impl FnOnce() -> Publish<'a>) -> Self {
        Self
    }

    pub(crate) const fn published(self, _: &str, _: &str) {}

    pub(crate) const fn parked(&self, _: &str) {}

    pub(crate) const fn ended(&self, _: &str, _: Option<&str>, _: bool) {}

    pub(crate) const fn failed(&self) {}
}
