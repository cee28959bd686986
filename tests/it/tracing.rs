//! Spans as a collector gets them: of the trace that the command began, one below the other.

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use serde_json::json;

use crate::rig::command::{CUSTOMER, Edit, OTP, OTP_REF, refund, refund_otp};
use crate::rig::event::Event;
use crate::rig::{ACCESS_KEY, DEVELOPER_KEY, INITIATOR, Rig, USER_CODE, eventually};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Stands in for a collector: keeps the bodies that it was sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Bytes>>>);

impl Collector {
    /// Starts one; tells where.
    async fn start() -> (Self, String) {
        let collector = Self::default();
        let keep = async |State(Self(bodies)): State<Self>, body: Bytes| {
            bodies.lock().unwrap().push(body);
        };
        let app = axum::Router::new().route("/v1/traces", axum::routing::post(keep));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = app.with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (collector, url)
    }

    /// All spans so far; each batch names the service.
    fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for body in self.0.lock().unwrap().iter() {
            let batch = ExportTraceServiceRequest::decode(body.clone()).unwrap();
            for of_resource in batch.resource_spans {
                let attributes = of_resource.resource.unwrap().attributes;
                assert!(
                    attributes.iter().any(|of| of.key == "service.name"
                        && of.value.as_ref().unwrap().value
                            == Some(Attribute::StringValue("eko-worker".to_owned()))),
                    "{attributes:?}"
                );
                spans.extend(of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
        }
        spans
    }
}

/// An attribute, as text.
fn attribute(span: &Span, key: &str) -> Option<String> {
    let of = span.attributes.iter().find(|of| of.key == key)?;
    Some(match of.value.as_ref()?.value.as_ref()? {
        Attribute::StringValue(text) => text.clone(),
        Attribute::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    let mut found: Vec<_> = spans.iter().filter(|span| span.kind() == kind).collect();
    found.sort_by_key(|span| span.start_time_unix_nano);
    found
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The span that an event's `traceparent` names.
fn span_of(event: &Event) -> String {
    event.text("/traceparent").split('-').nth(2).unwrap().to_owned()
}

fn published_by(parent: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(parent.into()));
    BasicProperties::default().with_headers(headers)
}

async fn exporting_rig() -> (Rig, Collector) {
    let (collector, url) = Collector::start().await;
    let rig = Rig::builder().set("OTEL_EXPORTER_OTLP_ENDPOINT", &url).start().await;
    (rig, collector)
}

#[tokio::test]
async fn a_command_s_trace_goes_on_into_the_call_and_the_event() {
    let (mut rig, collector) = exporting_rig().await;
    let queue = rig.broker.name("refund");
    let exchange = rig.broker.name("events");
    rig.publish_with(&refund("traced", "901"), published_by(PARENT)).await;
    let event = rig.next_event().await;
    // The stop flushes: without it, a batch may wait for seconds.
    rig.finish().await;

    let spans = collector.spans();
    let [journey] = of_kind(&spans, SpanKind::Consumer)[..] else { panic!("{spans:#?}") };
    let [call] = of_kind(&spans, SpanKind::Client)[..] else { panic!("{spans:#?}") };
    let [telling] = of_kind(&spans, SpanKind::Producer)[..] else { panic!("{spans:#?}") };
    for span in [journey, call, telling] {
        assert_eq!(hex(&span.trace_id), TRACE);
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
    }
    assert_eq!(hex(&journey.parent_span_id), "00f067aa0ba902b7");
    assert_eq!(call.parent_span_id, journey.span_id);
    assert_eq!(telling.parent_span_id, journey.span_id);
    assert_eq!(hex(&telling.span_id), span_of(&event), "whoever reads the event goes on from it");

    assert_eq!(journey.name, format!("process {queue}"));
    assert_eq!(attribute(journey, "messaging.system").as_deref(), Some("rabbitmq"));
    assert_eq!(attribute(journey, "messaging.message.id").as_deref(), Some("traced"));
    assert_eq!(attribute(journey, "eko.outcome").as_deref(), Some("succeeded"));
    assert_eq!(call.name, "POST refund");
    assert_eq!(attribute(call, "http.response.status_code").as_deref(), Some("200"));
    assert_eq!(attribute(call, "eko.attempt").as_deref(), Some("1"));
    assert!(attribute(call, "url.full").unwrap().ends_with("/customer/payment/refund/901"));
    assert_eq!(telling.name, format!("publish {exchange}"));
    assert_eq!(attribute(telling, "messaging.message.id").as_deref(), Some(event.id()));
}

#[tokio::test]
async fn a_retry_is_a_new_journey_of_the_same_trace_that_names_the_former() {
    let (mut rig, collector) = exporting_rig().await;
    rig.simulator().fault("902", "refund_otp", "http_429", 1).await;
    let command = refund_otp("again", "902").with("/traceparent", json!(PARENT));
    let event = rig.outcome_of(&command).await;
    assert_eq!(event.attempts(), 2);
    rig.finish().await;

    let spans = collector.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "{spans:#?}");
    let [first, second] = of_kind(&spans, SpanKind::Consumer)[..] else { panic!("{spans:#?}") };
    assert!(first.links.is_empty());
    let [link] = &second.links[..] else { panic!("{second:#?}") };
    assert_eq!(link.span_id, first.span_id);
    assert_eq!(attribute(first, "eko.parked_for").as_deref(), Some("rate_limited"));
    assert_eq!(attribute(second, "eko.attempts").as_deref(), Some("1"));
    let [refused, taken] = of_kind(&spans, SpanKind::Client)[..] else { panic!("{spans:#?}") };
    assert_eq!(refused.parent_span_id, first.span_id);
    assert_eq!(attribute(refused, "error.type").as_deref(), Some("429"));
    assert_eq!(taken.parent_span_id, second.span_id);
    assert_eq!(attribute(taken, "eko.attempt").as_deref(), Some("2"));
    assert_eq!(attribute(taken, "http.request.resend_count").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_command_without_a_trace_begins_one_and_its_repeat_names_the_event_told_before() {
    let (mut rig, collector) = exporting_rig().await;
    let event = rig.outcome_of(&refund_otp("twice", "903")).await;
    rig.publish(&refund_otp("twice", "903")).await;
    rig.next_event().await;
    rig.finish().await;

    let spans = collector.spans();
    let [first, repeat] = of_kind(&spans, SpanKind::Consumer)[..] else { panic!("{spans:#?}") };
    assert!(first.parent_span_id.is_empty(), "a root");
    assert_eq!(hex(&first.trace_id), event.text("/traceparent").split('-').nth(1).unwrap());
    assert_ne!(repeat.trace_id, first.trace_id);
    let [told, again] = of_kind(&spans, SpanKind::Producer)[..] else { panic!("{spans:#?}") };
    assert_eq!(hex(&told.span_id), span_of(&event));
    let [link] = &again.links[..] else { panic!("{again:#?}") };
    assert_eq!((&link.trace_id, &link.span_id), (&told.trace_id, &told.span_id));
}

#[tokio::test]
async fn an_unclear_refund_s_spans_hold_nothing_personal() {
    let (mut rig, collector) = exporting_rig().await;
    rig.simulator().fault("904", "refund", "http_500_done", 1).await;
    let event = rig.outcome_of(&refund("settled", "904")).await;
    assert_eq!(event.told(), "succeeded inquiry");
    rig.finish().await;

    let spans = collector.spans();
    let calls = of_kind(&spans, SpanKind::Client);
    let inquiry = calls.iter().find(|call| call.name == "GET inquiry").unwrap();
    assert!(attribute(inquiry, "url.full").unwrap().ends_with("/tools/reference/transaction/904"));
    let sent = format!("{spans:?}");
    for secret in [OTP, OTP_REF, CUSTOMER, DEVELOPER_KEY, ACCESS_KEY, INITIATOR, USER_CODE] {
        assert!(!sent.contains(secret), "{secret} shows in a span");
    }
}

#[tokio::test]
async fn a_collector_that_is_silent_or_away_holds_up_nothing_and_is_said_once() {
    // One takes connections and never answers, the other is not there.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = away.local_addr().unwrap();
    drop(away);
    for address in [silent.local_addr().unwrap(), closed] {
        let rig = Rig::builder()
            .set("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{address}"))
            .set("OTEL_BSP_SCHEDULE_DELAY", "50");
        let mut rig = rig.start().await;
        assert_eq!(rig.outcome_of(&refund("held-up", "905")).await.told(), "succeeded response");
        if address == closed {
            let worker = rig.worker();
            eventually("the worker says that it cannot export", async || {
                worker.log().contains("spans could not be exported").then_some(())
            })
            .await;
        }
        rig.worker().process.terminate();
        let begin = std::time::Instant::now();
        rig.end_of_worker().await;
        // The last export may take 2 s, and a busy machine its time.
        assert!(begin.elapsed().as_secs() < 8, "{:?}", begin.elapsed());
        rig.finish().await;
    }
}
