//! What a scrape, a probe and a trace see of requests.

use std::sync::Arc;

use sconce_core::{Phase, ServeError};
use sconce_testkit::client::Answer;
use sconce_testkit::fakes::{Act, FakeGateway, Gate, token};
use serde_json::json;

use super::Server;
use crate::{HttpSettings, PingCodes};

fn served(gateway: FakeGateway) -> (Arc<FakeGateway>, Server) {
    let gateway = Arc::new(gateway);
    let server = Server::start(&gateway, HttpSettings::default());
    (gateway, server)
}

/// The value of a series; labels but `model_name` and `version` are `more`.
fn value(server: &Server, name: &str, more: &str) -> Option<f64> {
    let text = server.client.get("/metrics").unwrap().text();
    let series = format!("{name}{{model_name=\"test\",version=\"\"{more}}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&*series))?;
    line.parse().ok()
}

/// The value of one of DJL Serving's counters.
fn djl(server: &Server, name: &str) -> f64 {
    let text = server.client.get("/metrics").unwrap().text();
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name}_total{{Host=")));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn both_routes_tell_the_same_families_in_the_text_of_prometheus() {
    let (_gateway, server) = served(FakeGateway::greeting());
    let names = |answer: &Answer| -> Vec<String> {
        let text = answer.text();
        let lines = text.lines().filter(|line| line.starts_with("# TYPE "));
        lines.map(str::to_owned).collect()
    };
    let (one, two) = (
        server.client.get("/metrics").unwrap(),
        server.client.get("/server/metrics").unwrap(),
    );
    for answer in [&one, &two] {
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
    }
    assert_eq!(names(&one), names(&two));
    assert!(names(&one).len() > 25, "{:?}", names(&one));
    let some = "/metrics?name[]=sconce_images_total&name%5B%5D=QueueTime";
    assert_eq!(names(&server.client.get(some).unwrap()).len(), 2);
}

#[test]
fn a_request_is_counted_before_its_client_has_all_of_it() {
    let (_gateway, server) = served(FakeGateway::greeting());
    let ask = json!({"inputs": "x"});
    assert_eq!(
        server.client.post("/invocations", &ask).unwrap().status,
        200
    );
    let ended = ",finished_reason=\"length\"";
    assert_eq!(value(&server, "sconce_requests_total", ended), Some(1.0));
    for (name, wanted) in [
        ("sconce_generation_tokens_total", 2.0),
        ("sconce_prompt_tokens_total", 1.0),
        ("sconce_time_to_first_token_seconds_count", 1.0),
        ("sconce_inter_token_latency_seconds_count", 1.0),
        ("sconce_e2e_request_latency_seconds_count", 1.0),
    ] {
        assert_eq!(value(&server, name, ""), Some(wanted), "{name}");
    }
}

#[test]
fn probes_and_scrapes_are_not_counted_as_answers() {
    let (_gateway, server) = served(FakeGateway::greeting());
    for path in ["/ping", "/metrics", "/health", "/v2/health/ready"] {
        assert_eq!(server.client.get(path).unwrap().status, 200, "{path}");
    }
    assert_eq!(djl(&server, "Response_2XX"), 0.0);
    server.client.get("/models").unwrap();
    server.client.get("/nowhere").unwrap();
    // A line is written when the last byte has left, which a client may see sooner.
    while djl(&server, "Response_2XX") + djl(&server, "Response_4XX") < 2.0 {
        std::thread::yield_now();
    }
    assert_eq!(djl(&server, "Response_2XX"), 1.0);
    assert_eq!(djl(&server, "Response_4XX"), 1.0);
}

#[test]
fn refusals_are_counted_by_their_reason_and_are_no_aborts() {
    let full = ServeError::QueueFull {
        model: "test".into(),
        limit: 1,
    };
    let (_gateway, server) = served(FakeGateway::refusing(full));
    let ask = json!({"inputs": "x"});
    assert_eq!(
        server.client.post("/invocations", &ask).unwrap().status,
        503
    );
    let reason = ",reason=\"queue_full\"";
    assert_eq!(
        value(&server, "sconce_request_failures_total", reason),
        Some(1.0)
    );
    let abort = ",finished_reason=\"abort\"";
    assert_eq!(value(&server, "sconce_requests_total", abort), None);
}

#[test]
fn a_client_that_leaves_is_an_abort() {
    let begun = Gate::default();
    let open = begun.clone();
    let gateway = FakeGateway::new(move |_| {
        open.open();
        vec![token(1, "a"), Act::UntilGone]
    });
    let (gateway, server) = served(gateway);
    let ask = json!({"inputs": "x", "stream": true});
    let mut stream = server.client.stream("/invocations", &ask).unwrap();
    stream.line().unwrap();
    drop(stream);
    assert!(begun.wait() && gateway.gone().wait());
    let abort = ",finished_reason=\"abort\"";
    // The script drops its reply after it has seen that.
    while value(&server, "sconce_requests_total", abort).is_none() {
        std::thread::yield_now();
    }
    assert_eq!(value(&server, "sconce_requests_total", abort), Some(1.0));
}

#[test]
fn metrics_that_are_switched_off_are_refused_as_djl_does() {
    let gateway = Arc::new(FakeGateway::greeting());
    let settings = HttpSettings {
        metrics: false,
        ..HttpSettings::default()
    };
    let server = Server::start(&gateway, settings);
    for path in ["/metrics", "/server/metrics"] {
        let answer = server.client.get(path).unwrap();
        assert_eq!(answer.status, 400);
        assert!(
            answer.text().contains("SERVING_PROMETHEUS"),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn readiness_is_told_of_the_server_and_of_each_model() {
    let (gateway, server) = served(FakeGateway::greeting());
    let check = |path: &str, status: u16, body: serde_json::Value| {
        let answer = server.client.get(path).unwrap();
        assert_eq!(
            (answer.status, answer.json().unwrap()),
            (status, body),
            "{path}"
        );
    };
    check("/v2/health/ready", 200, json!({"ready": true}));
    check(
        "/v2/models/test/ready",
        200,
        json!({"name": "test", "ready": true}),
    );
    gateway.set_phase(Phase::Loading);
    check("/v2/health/live", 200, json!({"live": true}));
    check("/v2/health/ready", 503, json!({"ready": false}));
    let loading = json!({"name": "test", "ready": false, "phase": "loading"});
    check("/v2/models/test/ready", 503, loading);
}

#[test]
fn codes_of_ping_can_be_those_of_djl() {
    let gateway = Arc::new(FakeGateway::greeting());
    let of = |ping: PingCodes, phase: Phase| {
        gateway.set_phase(phase);
        let settings = HttpSettings {
            ping,
            ..HttpSettings::default()
        };
        let server = Server::start(&gateway, settings);
        server.client.get("/ping").unwrap().status
    };
    let truth = PingCodes::default();
    let djl = PingCodes { djl: true, ..truth };
    let strict = PingCodes {
        unhealthy_fails: true,
        ..djl
    };
    let multi = PingCodes {
        multi_status: true,
        ..djl
    };
    for (phase, wanted) in [
        (Phase::Ready, [200, 200, 200, 200]),
        (Phase::Loading, [503, 200, 200, 207]),
        (Phase::Stalled("x".into()), [500, 200, 500, 200]),
        (Phase::Failed("x".into()), [500, 500, 500, 500]),
    ] {
        let codes = [truth, djl, strict, multi].map(|codes| of(codes, phase.clone()));
        assert_eq!(codes, wanted, "{phase}");
    }
}
