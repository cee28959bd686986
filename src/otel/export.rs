//! The way out: OTLP over HTTP, in batches, in a thread of its own. A full buffer drops spans; it
//! never holds up a journey.

use std::sync::atomic::{AtomicU32, Ordering};

use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{self, SdkTracerProvider, SpanData};
use url::Url;

/// The standard's path of traces below an endpoint.
const TRACES: &str = "v1/traces";

/// Everything but the endpoint is read by the library from the standard's own variables.
pub(super) fn provider(endpoint: &Url) -> anyhow::Result<SdkTracerProvider> {
    let endpoint = format!("{}/{TRACES}", endpoint.as_str().trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(endpoint).build()?;
    let exporter = Telling { exporter, failures: AtomicU32::new(0) };
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource()).build())
}

/// Who exports: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`, or this program's own name.
fn resource() -> Resource {
    let known = Resource::builder().build();
    let name = known.get(&Key::new("service.name")).map(|name| name.to_string());
    let named = name.filter(|name| !name.starts_with("unknown_service"));
    Resource::builder()
        .with_service_name(named.unwrap_or_else(|| "eko-worker".to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// An exporter that says when it fails: the libraries are silent.
#[derive(Debug)]
struct Telling {
    exporter: SpanExporter,
    failures: AtomicU32,
}

impl trace::SpanExporter for Telling {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let exported = self.exporter.export(batch).await;
        match &exported {
            Ok(()) => self.failures.store(0, Ordering::Relaxed),
            Err(error) => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                // The first, the second, the fourth and so on: it may be away for long.
                if failures.is_power_of_two() {
                    tracing::warn!(
                        %error, spans, failures,
                        "spans could not be exported and are lost"
                    );
                }
            }
        }
        exported
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
