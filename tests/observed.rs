//! The built program as those see it who watch it: a scrape, CloudWatch, a collector of traces, whoever reads its log.

mod collector;
mod console;
mod health;
mod metrics;
mod stalled;

use std::fs;
use std::path::Path;

use opentelemetry_proto::tonic::trace::v1::Span;
use sconce_testkit::client::Client;
use sconce_testkit::server::Launch;
use serde_json::{Value, json};
use tempfile::TempDir;

use self::collector::{Collector, text};
use crate::support::{PROGRAM, copy_checkpoint, started};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A launch of a tiny Llama as a rolling batch.
fn llama(dir: &Path) -> Launch<'static> {
    let model = copy_checkpoint("llama", dir);
    fs::write(
        model.join("serving.properties"),
        "option.rolling_batch=auto\n",
    )
    .unwrap();
    Launch::serve(PROGRAM, &model)
}

fn ask(tokens: usize, stream: bool) -> Value {
    json!({
        "inputs": "Once upon a time",
        "stream": stream,
        "parameters": {"max_new_tokens": tokens, "ignore_eos_token": true},
    })
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name);
    found.unwrap_or_else(|| panic!("no span {name} in {spans:?}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_collector_gets_a_request_with_queue_prefill_and_decode_below_its_parent() {
    let collector = Collector::start();
    let dir = TempDir::new().unwrap();
    let mut server = started(
        llama(dir.path())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-team=chat")
            .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
            .env("OTEL_BSP_SCHEDULE_DELAY", "50"),
    );
    let client = Client::new(server.address());
    let headers = [
        ("content-type", "application/json"),
        ("traceparent", PARENT),
        ("x-request-id", "my-request"),
    ];
    let body = ask(5, false).to_string();
    let answer = client.post_bytes("/invocations", &headers, body.as_bytes());
    assert_eq!(answer.unwrap().status, 200);
    client.get("/ping").unwrap();
    let spans = collector.spans(4);
    assert_eq!(collector.header("x-team").as_deref(), Some("chat"));
    let resource = collector.resource();
    assert_eq!(text(&resource, "service.name").as_deref(), Some("sconce"));
    assert_eq!(
        text(&resource, "deployment.environment").as_deref(),
        Some("test")
    );
    let whole = named(&spans, "POST /invocations");
    assert_eq!(hex(&whole.parent_span_id), "b7ad6b7169203331");
    assert_eq!(
        text(&whole.attributes, "http.response.status_code").as_deref(),
        Some("200")
    );
    let mut end = 0;
    for name in ["queue", "prefill", "decode"] {
        let span = named(&spans, name);
        assert_eq!(span.parent_span_id, whole.span_id, "{name}");
        assert!(
            span.start_time_unix_nano >= end,
            "{name} follows the one before"
        );
        assert!(
            span.end_time_unix_nano >= span.start_time_unix_nano,
            "{name}"
        );
        end = span.end_time_unix_nano;
    }
    for span in &spans {
        assert_eq!(hex(&span.trace_id), "0af7651916cd43dd8448eb211c80319c");
        let id = text(&span.attributes, "gen_ai.request.id");
        assert_eq!(id.as_deref(), Some("my-request"), "{}", span.name);
    }
    let last = &named(&spans, "decode").attributes;
    for (key, value) in [
        ("gen_ai.request.model", "llama"),
        ("gen_ai.response.finish_reason", "length"),
        ("gen_ai.usage.output_tokens", "5"),
    ] {
        assert_eq!(text(last, key).as_deref(), Some(value), "{key}");
    }
    // What is not sent yet is sent before the end.
    client.get("/models").unwrap();
    server.terminate().unwrap();
    server.wait(std::time::Duration::from_secs(60)).unwrap();
    let spans = collector.spans(5);
    named(&spans, "GET /models");
    assert!(spans.iter().all(|span| !span.name.contains("ping")));
}

#[test]
fn a_collector_that_is_not_there_costs_nobody_an_answer() {
    let dir = TempDir::new().unwrap();
    let nobody = Collector::start().url();
    let mut server = started(
        llama(dir.path())
            .env(
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
                &format!("{nobody}/v1/traces"),
            )
            .env("OTEL_BSP_SCHEDULE_DELAY", "10"),
    );
    let client = Client::new(server.address());
    for _ in 0..3 {
        assert_eq!(
            client.post("/invocations", &ask(2, false)).unwrap().status,
            200
        );
    }
    server.terminate().unwrap();
    let status = server.wait(std::time::Duration::from_secs(60)).unwrap();
    assert_eq!(status.code(), Some(0), "{}", server.log());
}

#[test]
fn requests_and_models_are_told_to_cloudwatch_on_standard_output() {
    let dir = TempDir::new().unwrap();
    let output = dir.path().join("output");
    let launch = llama(dir.path()).env("SCONCE_EMF", "Team/Chat");
    let mut server = started(launch.output(&output));
    let client = Client::new(server.address());
    let headers = [
        ("content-type", "application/json"),
        ("x-request-id", "r-1"),
    ];
    let body = ask(4, false).to_string();
    client
        .post_bytes("/invocations", &headers, body.as_bytes())
        .unwrap();
    server.terminate().unwrap();
    server.wait(std::time::Duration::from_secs(60)).unwrap();
    let lines = fs::read_to_string(&output).unwrap();
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [line] = lines.as_slice() else {
        panic!("{lines:?}");
    };
    assert_eq!(
        (&line["Model"], &line["RequestId"]),
        (&json!("llama"), &json!("r-1"))
    );
    assert_eq!(line["OutputTokens"], json!(4.0));
    assert!(line["TimeToFirstToken"].as_f64().unwrap() <= line["RequestLatency"].as_f64().unwrap());
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(directive["Namespace"], "Team/Chat");
}

#[test]
fn the_log_can_be_json_and_requests_can_be_left_out_of_it() {
    let dir = TempDir::new().unwrap();
    let mut server = started(llama(dir.path()).env("SCONCE_LOG_FORMAT", "json"));
    let client = Client::new(server.address());
    client.post("/invocations", &ask(2, false)).unwrap();
    server.wait_for_log("POST /invocations").unwrap();
    for line in server.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(
            line["level"].is_string() && line["timestamp"].is_string(),
            "{line}"
        );
    }
    let log = server.log();
    let line = log.lines().find(|line| line.contains("POST /invocations"));
    let line: Value = serde_json::from_str(line.unwrap()).unwrap();
    assert_eq!(line["tokens"], json!(2));
    assert!(line["id"].is_string() && line["ms"].is_number(), "{line}");

    let dir = TempDir::new().unwrap();
    let mut quiet = started(llama(dir.path()).env("SCONCE_ACCESS_LOG", "off"));
    let client = Client::new(quiet.address());
    client.post("/invocations", &ask(2, false)).unwrap();
    quiet.terminate().unwrap();
    quiet.wait(std::time::Duration::from_secs(60)).unwrap();
    let log = quiet.log();
    assert!(!log.contains("POST /invocations"), "{log}");
}
