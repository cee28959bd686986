//! The spans themselves, named as OpenTelemetry's conventions for messaging and HTTP have it.

use std::sync::Arc;

use anyhow::Context as _;
use opentelemetry::trace::{
    SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use url::Url;

use super::{Call, LAST_EXPORT, Place, Publish, Received, export};
use crate::trace::Trace;

/// Makes spans, where a collector is set.
pub(crate) struct Tracer(Option<Exporting>);

struct Exporting {
    provider: SdkTracerProvider,
    tracer: Arc<SdkTracer>,
}

/// A span that is open, or nothing. It ends when it is dropped.
pub(crate) struct Span(Option<Open>);

struct Open {
    tracer: Arc<SdkTracer>,
    context: Context,
}

impl Tracer {
    /// Exports to the collector at `endpoint`, in a thread of its own.
    ///
    /// # Errors
    /// Where no HTTP client can be built.
    pub(crate) fn start(endpoint: Option<&Url>) -> anyhow::Result<Self> {
        let Some(endpoint) = endpoint else { return Ok(Self(None)) };
        let provider = export::provider(endpoint).context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
        let tracer = Arc::new(provider.tracer("eko-worker"));
        Ok(Self(Some(Exporting { provider, tracer })))
    }

    /// The span of a delivery, from now on.
    pub(crate) fn journey<'a>(&self, received: impl FnOnce() -> Received<'a>) -> Span {
        let Some(Exporting { tracer, .. }) = &self.0 else { return Span(None) };
        let received = received();
        let mut attributes = vec![
            KeyValue::new("messaging.system", "rabbitmq"),
            KeyValue::new("messaging.operation.name", "process"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.name", received.queue.clone()),
            KeyValue::new("eko.kind", received.kind),
            KeyValue::new("eko.attempts", i64::from(received.attempts)),
            KeyValue::new("eko.parked", i64::from(received.parked)),
        ];
        if let Some(id) = received.command_id {
            attributes.push(KeyValue::new("messaging.message.id", id.to_owned()));
        }
        let parent = received.parent.map(span_context);
        let parent = parent.map(|parent| Context::new().with_remote_span_context(parent));
        let builder = tracer
            .span_builder(format!("process {}", received.queue))
            .with_kind(SpanKind::Consumer)
            .with_attributes(attributes);
        Span::open(tracer, linked(builder, received.previous.as_ref()), &parent.unwrap_or_default())
    }

    /// Exports what is left, unless that takes too long.
    pub(crate) async fn stop(&self) {
        let Some(Exporting { provider, .. }) = &self.0 else { return };
        let provider = provider.clone();
        let stopped =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(LAST_EXPORT));
        if !matches!(stopped.await, Ok(Ok(()))) {
            tracing::warn!("the last spans were not exported in time");
        }
    }
}

impl Span {
    fn open(tracer: &Arc<SdkTracer>, builder: SpanBuilder, parent: &Context) -> Self {
        let span = tracer.build_with_context(builder, parent);
        Self(Some(Open { tracer: Arc::clone(tracer), context: parent.with_span(span) }))
    }

    /// Where it stands in its trace.
    pub(crate) fn place(&self) -> Option<Place> {
        let Open { context, .. } = self.0.as_ref()?;
        let span = context.span();
        let context = span.span_context();
        Some(Place {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            is_sampled: context.is_sampled(),
        })
    }

    /// The span of a call of Eko below this one.
    pub(crate) fn call(&self, call: impl FnOnce() -> Call) -> Self {
        let Some(Open { tracer, context }) = &self.0 else { return Self(None) };
        let Call { method, endpoint, url, attempt } = call();
        let mut attributes = vec![
            KeyValue::new("http.request.method", method),
            KeyValue::new("eko.endpoint", endpoint),
        ];
        attributes
            .extend(url.host_str().map(|host| KeyValue::new("server.address", host.to_owned())));
        let port = url.port_or_known_default();
        attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
        attributes.push(KeyValue::new("url.full", String::from(url)));
        if let Some(attempt) = attempt {
            attributes.push(KeyValue::new("eko.attempt", i64::from(attempt)));
            let again = i64::from(attempt) - 1;
            attributes
                .extend((again > 0).then(|| KeyValue::new("http.request.resend_count", again)));
        }
        let builder = tracer
            .span_builder(format!("{method} {endpoint}"))
            .with_kind(SpanKind::Client)
            .with_attributes(attributes);
        Self::open(tracer, builder, context)
    }

    /// Ends the span of a call.
    pub(crate) fn answered(self, http_status: Option<u16>, verdict: &'static str) {
        let Some(Open { context, .. }) = &self.0 else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("eko.verdict", verdict));
        match http_status {
            Some(status) => {
                span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
                if status >= 400 {
                    span.set_attribute(KeyValue::new("error.type", status.to_string()));
                    span.set_status(Status::error(""));
                }
            }
            None => {
                span.set_attribute(KeyValue::new("error.type", "no_answer"));
                span.set_status(Status::error("no answer"));
            }
        }
    }

    /// The span of an event that is published.
    pub(crate) fn publish<'a>(&self, publish: impl FnOnce() -> Publish<'a>) -> Self {
        let Some(Open { tracer, context }) = &self.0 else { return Self(None) };
        let Publish { exchange, previous, command_id } = publish();
        let builder = tracer
            .span_builder(format!("publish {exchange}"))
            .with_kind(SpanKind::Producer)
            .with_attributes([
                KeyValue::new("messaging.system", "rabbitmq"),
                KeyValue::new("messaging.operation.name", "publish"),
                KeyValue::new("messaging.operation.type", "send"),
                KeyValue::new("messaging.destination.name", exchange),
                KeyValue::new("eko.command_id", command_id.to_owned()),
            ]);
        Self::open(tracer, linked(builder, previous.as_ref()), context)
    }

    /// Ends the span of an event that the broker has confirmed.
    pub(crate) fn published(self, event_id: &str, event_type: &str) {
        let Some(Open { context, .. }) = &self.0 else { return };
        let span = context.span();
        let key = "messaging.rabbitmq.destination.routing_key";
        span.set_attribute(KeyValue::new(key, event_type.to_owned()));
        span.set_attribute(KeyValue::new("messaging.message.id", event_id.to_owned()));
    }

    /// The journey ends in a copy that waits.
    pub(crate) fn parked(&self, reason: &str) {
        let Some(Open { context, .. }) = &self.0 else { return };
        context.span().set_attribute(KeyValue::new("eko.parked_for", reason.to_owned()));
    }

    /// The journey ends in an outcome, which may need a person.
    pub(crate) fn ended(&self, outcome: &str, code: Option<&str>, needs_a_person: bool) {
        let Some(Open { context, .. }) = &self.0 else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("eko.outcome", outcome.to_owned()));
        if let Some(code) = code {
            span.set_attribute(KeyValue::new("eko.code", code.to_owned()));
        }
        if needs_a_person {
            span.set_status(Status::error(outcome.to_owned()));
        }
    }

    /// What the span stands for did not come about.
    pub(crate) fn failed(&self) {
        let Some(Open { context, .. }) = &self.0 else { return };
        context.span().set_status(Status::error("not settled: it comes again"));
    }
}

fn linked(builder: SpanBuilder, previous: Option<&Trace>) -> SpanBuilder {
    match previous {
        Some(previous) => {
            let link = opentelemetry::trace::Link::new(span_context(previous), Vec::new(), 0);
            builder.with_links(vec![link])
        }
        None => builder,
    }
}

fn span_context(trace: &Trace) -> SpanContext {
    let state = trace.state.as_deref().and_then(|state| state.parse::<TraceState>().ok());
    SpanContext::new(
        TraceId::from_hex(trace.id()).unwrap_or(TraceId::INVALID),
        SpanId::from_hex(trace.span_id()).unwrap_or(SpanId::INVALID),
        TraceFlags::new(trace.flags()),
        true,
        state.unwrap_or_default(),
    )
}
