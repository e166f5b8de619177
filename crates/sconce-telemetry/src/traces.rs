//! Traces: a span for each request, and below it one for each job's wait in the queue, its prefill and its decode.
//!
//! The spans of a job are made when it is over, from the moments that were noted; nothing happens meanwhile. They go to a
//! collector by OTLP over HTTP, in batches, from a thread of OpenTelemetry's library, which reads its own variables for
//! headers, batches and sampling.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span, TracerProviderBuilder};
use sconce_core::JobId;

use crate::measured::{Ending, Times};
use crate::post::Post;

/// So long the end of the process waits for the last batch.
const LAST_BATCH: Duration = Duration::from_secs(2);

/// Why there are no traces.
pub type TraceError = opentelemetry_otlp::ExporterBuildError;

/// Who gets the traces; its address is in OpenTelemetry's variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// Time for it to answer.
    pub timeout: Duration,
    /// `OTEL_SERVICE_NAME`; `None`: what `OTEL_RESOURCE_ATTRIBUTES` says, else sconce.
    pub service: Option<String>,
}

/// Makes traces and sends them.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// What a request says of the trace that it belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Incoming<'a> {
    /// The header `traceparent` of W3C's Trace Context.
    pub parent: Option<&'a str>,
    /// The header `tracestate`.
    pub state: Option<&'a str>,
}

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.parent,
            "tracestate" => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

impl Traces {
    /// Sends traces to a collector.
    ///
    /// # Errors
    /// The collector's address is none.
    pub fn start(collector: &Collector) -> Result<Self, TraceError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Post::new(collector.timeout))
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(collector.timeout)
            .build()?;
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource(collector.service.as_deref()));
        Ok(Self::of(provider))
    }

    fn of(provider: TracerProviderBuilder) -> Self {
        let provider = provider.build();
        Self {
            tracer: provider.tracer("sconce"),
            provider,
        }
    }

    /// A request has come.
    pub fn request(
        &self,
        incoming: Incoming<'_>,
        (method, path): (&str, &str),
        id: &str,
    ) -> RequestTrace {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &incoming);
        let builder = self
            .tracer
            .span_builder(format!("{method} {path}"))
            .with_kind(SpanKind::Server)
            .with_attributes([
                text("http.request.method", method),
                text("url.path", path),
                text("gen_ai.request.id", id),
            ]);
        let span = self.tracer.build_with_context(builder, &parent);
        let context = span.span_context().clone();
        RequestTrace(Arc::new(Inner {
            tracer: self.tracer.clone(),
            context,
            span: Mutex::new(span),
            id: id.into(),
        }))
    }

    pub(crate) fn shutdown(&self) {
        if let Err(cause) = self.provider.shutdown_with_timeout(LAST_BATCH) {
            tracing::warn!("the last traces may be lost: {cause}");
        }
    }
}

fn resource(service: Option<&str>) -> Resource {
    let named = Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_service_name("sconce")
        .with_attribute(text("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match service {
        Some(name) => named.with_service_name(name.to_owned()).build(),
        None => named.build(),
    }
}

fn text(key: &'static str, value: &str) -> KeyValue {
    KeyValue::new(key, value.to_owned())
}

fn number(key: &'static str, value: impl Into<Value>) -> KeyValue {
    KeyValue::new(key, value)
}

/// The trace of one request; clones are the same.
#[derive(Clone, Debug)]
pub struct RequestTrace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tracer: SdkTracer,
    context: SpanContext,
    span: Mutex<Span>,
    id: String,
}

/// A job that is over.
pub(crate) struct Spans<'a> {
    pub(crate) job: JobId,
    pub(crate) model: String,
    pub(crate) times: Times,
    pub(crate) ended: Instant,
    pub(crate) ending: &'a Ending,
}

impl RequestTrace {
    /// The request is answered with this status; `None`: the client left before. `complete`: it has all of the answer.
    pub fn end(&self, status: Option<u16>, complete: bool) {
        let mut span = self.0.span.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = status {
            span.set_attribute(number("http.response.status_code", i64::from(status)));
        }
        let failed = match status {
            Some(500..) => Some("the server failed"),
            Some(_) if complete => None,
            _ => Some("the client left"),
        };
        if let Some(cause) = failed {
            span.set_status(Status::error(cause));
        }
        span.end();
    }

    /// Tells of a job.
    pub(crate) fn job(&self, spans: Spans<'_>) {
        if !self.0.context.is_sampled() {
            return;
        }
        let Spans {
            times,
            ended,
            ending,
            ..
        } = &spans;
        let queued = times.queued.1;
        let out = times.began.unwrap_or(*ended);
        let computed = times.began.map(|began| match times.first {
            Some(first) => (("prefill", began, first), Some(("decode", first, *ended))),
            None => (("compute", began, *ended), None),
        });
        let (middle, last) = computed.map_or((None, None), |(middle, last)| (Some(middle), last));
        let parts = [Some(("queue", queued, out)), middle, last];
        let count = parts.iter().flatten().count();
        for (index, (name, from, to)) in parts.into_iter().flatten().enumerate() {
            let ends = index + 1 == count;
            self.part(&spans, name, (from, to), ends.then_some(*ending));
        }
    }

    /// A part of a job's time; the last one says how it ended.
    fn part(
        &self,
        spans: &Spans<'_>,
        name: &'static str,
        (from, to): (Instant, Instant),
        ending: Option<&Ending>,
    ) {
        let wall = |moment| -> SystemTime { spans.times.on_the_wall(moment) };
        let mut attributes = vec![
            text("gen_ai.request.id", &self.0.id),
            text("gen_ai.request.model", &spans.model),
            text("sconce.job", &spans.job.to_string()),
        ];
        if let Some(ending) = ending {
            let tokens = |key, tokens: Option<usize>| Some(number(key, tokens? as i64));
            attributes.push(text("gen_ai.response.finish_reason", ending.reason));
            attributes.extend(tokens("gen_ai.usage.input_tokens", ending.read));
            attributes.extend(tokens("gen_ai.usage.output_tokens", ending.generated));
        }
        let builder = self
            .0
            .tracer
            .span_builder(name)
            .with_kind(SpanKind::Internal)
            .with_start_time(wall(from))
            .with_attributes(attributes);
        let parent = Context::new().with_remote_span_context(self.0.context.clone());
        let mut span = self.0.tracer.build_with_context(builder, &parent);
        if let Some(error) = ending.and_then(|ending| ending.error.clone()) {
            span.set_status(Status::error(error));
        }
        span.end_with_timestamp(wall(to));
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SpanData};

    use super::*;

    fn traces() -> (Traces, InMemorySpanExporter) {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone());
        (Traces::of(provider), exporter)
    }

    fn attribute(span: &SpanData, key: &str) -> Option<String> {
        let found = span.attributes.iter().find(|pair| pair.key.as_str() == key);
        found.map(|pair| pair.value.to_string())
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_job_s_spans_follow_each_other_below_its_request() {
        let (traces, exporter) = traces();
        let incoming = Incoming {
            parent: Some(PARENT),
            state: Some("vendor=1"),
        };
        let request = traces.request(incoming, ("POST", "/invocations"), "abc");
        let queued = Instant::now();
        let at = |millis| queued + Duration::from_millis(millis);
        let ending = Ending {
            reason: "length",
            read: Some(7),
            generated: Some(3),
            error: None,
        };
        request.job(Spans {
            job: JobId(4),
            model: "m".into(),
            times: Times {
                queued: (SystemTime::now(), queued),
                began: Some(at(5)),
                first: Some(at(25)),
                last: Some(at(60)),
            },
            ended: at(61),
            ending: &ending,
        });
        request.end(Some(200), true);
        let spans = exporter.get_finished_spans().unwrap();
        let names: Vec<&str> = spans.iter().map(|span| &*span.name).collect();
        assert_eq!(names, ["queue", "prefill", "decode", "POST /invocations"]);
        let whole = &spans[3];
        assert_eq!(whole.parent_span_id.to_string(), "b7ad6b7169203331");
        assert_eq!(
            attribute(whole, "http.response.status_code").as_deref(),
            Some("200")
        );
        for (span, millis) in spans.iter().zip([5, 20, 36]) {
            let took = span.end_time.duration_since(span.start_time).unwrap();
            assert_eq!(took, Duration::from_millis(millis), "{}", span.name);
            assert_eq!(span.parent_span_id, whole.span_context.span_id());
        }
        for span in &spans {
            let trace = span.span_context.trace_id().to_string();
            assert_eq!(trace, "0af7651916cd43dd8448eb211c80319c");
            assert_eq!(attribute(span, "gen_ai.request.id").as_deref(), Some("abc"));
        }
        let last = &spans[2];
        for (key, value) in [
            ("gen_ai.request.model", "m"),
            ("sconce.job", "job-4"),
            ("gen_ai.response.finish_reason", "length"),
            ("gen_ai.usage.input_tokens", "7"),
            ("gen_ai.usage.output_tokens", "3"),
        ] {
            assert_eq!(attribute(last, key).as_deref(), Some(value), "{key}");
        }
    }

    #[test]
    fn what_failed_in_the_queue_says_so_there() {
        let (traces, exporter) = traces();
        let request = traces.request(Incoming::default(), ("POST", "/invocations"), "abc");
        let queued = Instant::now();
        let ending = Ending {
            reason: "error",
            error: Some("too late".into()),
            ..Ending::default()
        };
        request.job(Spans {
            job: JobId(1),
            model: "m".into(),
            times: Times {
                queued: (SystemTime::now(), queued),
                began: None,
                first: None,
                last: None,
            },
            ended: queued + Duration::from_millis(9),
            ending: &ending,
        });
        request.end(Some(503), true);
        let spans = exporter.get_finished_spans().unwrap();
        assert_eq!(spans.len(), 2);
        assert_eq!(spans[0].status, Status::error("too late"));
        assert_eq!(spans[1].status, Status::error("the server failed"));
    }

    #[test]
    fn who_does_not_want_to_be_traced_is_not() {
        let (traces, exporter) = traces();
        let unsampled = PARENT.replace("-01", "-00");
        let incoming = Incoming {
            parent: Some(&unsampled),
            state: None,
        };
        let request = traces.request(incoming, ("GET", "/models"), "abc");
        request.end(Some(200), true);
        assert!(exporter.get_finished_spans().unwrap().is_empty());
    }

    #[test]
    fn nonsense_begins_a_trace_of_its_own() {
        let (traces, exporter) = traces();
        let incoming = Incoming {
            parent: Some("00-nonsense"),
            state: None,
        };
        traces
            .request(incoming, ("GET", "/models"), "abc")
            .end(None, false);
        let spans = exporter.get_finished_spans().unwrap();
        assert_eq!(spans[0].parent_span_id.to_string(), "0000000000000000");
        assert_eq!(spans[0].status, Status::error("the client left"));
    }
}
