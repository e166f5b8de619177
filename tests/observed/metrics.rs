//! `/metrics` of every kind of engine, read by a parser that is not ours.

use std::path::Path;
use std::process::Command;

use prometheus_parse::{Scrape, Value as Measured};
use sconce_testkit::client::Client;
use sconce_testkit::server::Server;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{ask, llama};
use crate::support::{PROGRAM, copy_folder, started};
use sconce_testkit::server::Launch;

/// A scrape of a server.
struct Metrics(Scrape, String);

impl Metrics {
    fn of(server: &Server) -> Self {
        let text = Client::new(server.address())
            .get("/metrics")
            .unwrap()
            .text();
        let lines = text.lines().map(|line| Ok(line.to_owned()));
        let scrape = Scrape::parse(lines).unwrap();
        let told = text.lines().filter(|line| !line.starts_with('#'));
        let names = told.filter_map(|line| line.split(['{', ' ']).next());
        for name in names.map(|name| name.strip_suffix("_bucket").unwrap_or(name)) {
            let is_read = scrape.samples.iter().any(|sample| sample.metric == name);
            assert!(is_read, "the parser does not read {name} of\n{text}");
        }
        Self(scrape, text)
    }

    /// The only sample of that name with this label.
    fn value(&self, name: &str, (label, wanted): (&str, &str)) -> f64 {
        let mut found = self.0.samples.iter().filter(|sample| {
            sample.metric == name
                && sample
                    .labels
                    .get(label)
                    .is_some_and(|value| value == wanted)
        });
        let sample = found.next();
        let sample = sample.unwrap_or_else(|| panic!("no {name} with {wanted} in\n{}", self.1));
        assert!(found.next().is_none(), "{name} is there twice");
        match &sample.value {
            Measured::Counter(value) | Measured::Gauge(value) | Measured::Untyped(value) => *value,
            Measured::Histogram(buckets) => buckets.last().unwrap().count,
            Measured::Summary(_) => panic!("{name} is a summary"),
        }
    }

    fn of_model(&self, name: &str, model: &str) -> f64 {
        self.value(&format!("sconce_{name}"), ("model_name", model))
    }

    /// Requests of the only model that ended so.
    fn ended(&self, reason: &str) -> f64 {
        self.value("sconce_requests_total", ("finished_reason", reason))
    }
}

fn post(server: &Server, body: &Value) {
    let answer = Client::new(server.address())
        .post("/invocations", body)
        .unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// A server of one of the folders of models.
fn folder(kind: &str, name: &str, dir: &Path, properties: &str) -> Server {
    let models = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models"));
    let to = dir.join("model");
    copy_folder(&models.join(kind).join(name), &to);
    std::fs::write(to.join("serving.properties"), properties).unwrap();
    started(Launch::serve(PROGRAM, &to))
}

#[test]
fn generations_are_measured_token_by_token() {
    let dir = TempDir::new().unwrap();
    let server = started(llama(dir.path()));
    post(&server, &ask(6, false));
    let client = Client::new(server.address());
    client
        .stream("/invocations", &ask(4, true))
        .unwrap()
        .lines()
        .unwrap();
    // More than a block, so that the second one finds the first one's.
    let long = json!({"inputs": "so it goes ".repeat(15), "parameters": {"max_new_tokens": 2, "ignore_eos_token": true}});
    post(&server, &long);
    post(&server, &long);
    let metrics = Metrics::of(&server);
    let of = |name: &str| metrics.of_model(name, "llama");
    for (name, wanted) in [
        ("time_to_first_token_seconds", 4.0),
        ("inter_token_latency_seconds", 5.0 + 3.0 + 1.0 + 1.0),
        ("request_queue_time_seconds", 4.0),
        ("request_prefill_time_seconds", 4.0),
        ("request_decode_time_seconds", 4.0),
        ("e2e_request_latency_seconds", 4.0),
        ("generation_tokens_total", 6.0 + 4.0 + 2.0 + 2.0),
        ("num_requests_running", 0.0),
        ("num_requests_waiting", 0.0),
        ("kv_cache_usage_ratio", 0.0),
        ("saturation", 0.0),
        ("model_ready", 1.0),
        ("workers", 1.0),
        ("num_preemptions_total", 0.0),
    ] {
        assert_eq!(of(name), wanted, "{name}");
    }
    assert_eq!(metrics.ended("length"), 4.0);
    // A step of one request for each token; prompts have more.
    let steps = of("step_batch_size");
    assert!(
        steps >= 14.0 && steps <= of("engine_steps_total"),
        "{steps}"
    );
    assert_eq!(of("step_batch_size_sum"), steps);
    let tokens = of("prompt_tokens_total") - of("prefix_cache_hits_total");
    let further = of("generation_tokens_total") - 4.0;
    assert_eq!(of("iteration_tokens_total_sum"), tokens + further);
    assert_eq!(of("prefix_cache_queries_total"), of("prompt_tokens_total"));
    let hits = of("prefix_cache_hits_total");
    assert!(
        hits >= 32.0 && hits < of("prompt_tokens_total") / 2.0,
        "{hits}"
    );
    assert!(of("model_load_seconds") > 0.0);
    let latency = metrics.value("RequestLatency", ("Model", "llama"));
    assert_eq!(latency, 4.0);
    assert!(metrics.value("LoadModel", ("Model", "llama")) > 0.0);
    assert_eq!(
        metrics.value(
            "DJLServingStart_total",
            ("Version", env!("CARGO_PKG_VERSION"))
        ),
        1.0
    );
}

#[test]
fn the_parser_of_prometheus_own_client_reads_what_is_told() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let package = root.join("target/metrics");
    if !package.is_dir() {
        println!("skipped: target/metrics is not there; `make sdk` fetches it");
        return;
    }
    let dir = TempDir::new().unwrap();
    let server = started(llama(dir.path()));
    post(&server, &ask(6, false));
    let refused = Client::new(server.address()).post("/invocations", &json!({"inputs": 7}));
    assert_eq!(refused.unwrap().status, 424);
    let output = Command::new("python3")
        .arg(root.join("tests/metrics/check.py"))
        .args([server.url("/metrics"), server.url("/server/metrics")])
        .env("PYTHONPATH", &package)
        .env("NO_PROXY", "127.0.0.1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{failed}");
    println!("{said}");
}

#[test]
fn tasks_of_encoders_are_measured() {
    let dir = TempDir::new().unwrap();
    let server = folder("tasks", "bert-text-classification", dir.path(), "");
    for _ in 0..3 {
        post(&server, &json!({"inputs": "Ada likes London."}));
    }
    let metrics = Metrics::of(&server);
    let of = |name: &str| metrics.of_model(name, "model");
    assert_eq!(metrics.ended("done"), 3.0);
    assert_eq!(of("request_queue_time_seconds"), 3.0);
    assert_eq!(of("e2e_request_latency_seconds"), 3.0);
    assert_eq!(of("engine_steps_total"), 3.0);
    assert!(of("prompt_tokens_total") >= 9.0);
    assert_eq!(of("generation_tokens_total"), 0.0);
}

#[test]
fn texts_from_texts_are_measured() {
    let dir = TempDir::new().unwrap();
    let server = folder(
        "seq2seq",
        "t5-translation",
        dir.path(),
        "option.task=translation_en_to_de",
    );
    post(&server, &json!({"inputs": "Ada likes London."}));
    let metrics = Metrics::of(&server);
    let of = |name: &str| metrics.of_model(name, "model");
    assert_eq!(of("request_queue_time_seconds"), 1.0);
    assert_eq!(of("e2e_request_latency_seconds"), 1.0);
    assert!(of("engine_steps_total") >= 1.0);
    assert_eq!(of("kv_cache_usage_ratio"), 0.0);
}

#[test]
fn pictures_are_measured() {
    let dir = TempDir::new().unwrap();
    let server = folder("diffusion", "sd1", dir.path(), "");
    let parameters = json!({"num_inference_steps": 2, "num_images_per_prompt": 2, "seed": 1, "response_format": "b64_json"});
    post(
        &server,
        &json!({"prompt": "a candle", "parameters": parameters}),
    );
    let metrics = Metrics::of(&server);
    let of = |name: &str| metrics.of_model(name, "model");
    assert_eq!(of("images_total"), 2.0);
    assert_eq!(of("request_queue_time_seconds"), 1.0);
    assert!(of("engine_steps_total") >= 2.0);
    assert_eq!(metrics.ended("done"), 1.0);
}

#[test]
fn handlers_in_python_are_measured() {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("there is no python3: nothing is tested");
        return;
    }
    let dir = TempDir::new().unwrap();
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    let code = "from djl_python import Output\n\ndef handle(inputs):\n    \
                if inputs.is_empty():\n        return None\n    return Output().add('hello')\n";
    std::fs::write(model.join("model.py"), code).unwrap();
    std::fs::write(model.join("serving.properties"), "engine=Python\n").unwrap();
    let server = started(Launch::serve(PROGRAM, &model));
    for _ in 0..2 {
        post(&server, &json!({"inputs": "x"}));
    }
    let metrics = Metrics::of(&server);
    let of = |name: &str| metrics.of_model(name, "model");
    assert_eq!(metrics.ended("done"), 2.0);
    assert_eq!(of("request_queue_time_seconds"), 2.0);
    assert_eq!(of("e2e_request_latency_seconds"), 2.0);
    assert_eq!(of("workers"), 1.0);
}
