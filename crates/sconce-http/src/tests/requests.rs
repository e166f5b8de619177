//! What goes in and what comes out: answers, refusals, headers.

use std::sync::Arc;

use sconce_core::{Phase, ServeError};
use sconce_testkit::client::Answer;
use sconce_testkit::fakes::{FakeGateway, done, failed, token};
use serde_json::json;

use super::*;

fn greeting() -> (Arc<FakeGateway>, Server) {
    let gateway = Arc::new(FakeGateway::greeting());
    let server = Server::start(&gateway, HttpSettings::default());
    (gateway, server)
}

#[test]
fn all_inference_routes_give_the_same_answer() {
    let (gateway, server) = greeting();
    let routes = ["/invocations", "/predictions/test", "/models/test/invoke"];
    let with_model = ["/invocations?model_name=test", "/models/test/invoke?x=y"];
    for path in routes.into_iter().chain(with_model) {
        let answer = server.client.post(path, &json!({"inputs": "Hi"})).unwrap();
        assert_eq!(
            (answer.status, answer.text()),
            (200, r#"{"generated_text": "Hello world"}"#.into())
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("content-length"), Some("33"));
    }
    assert_eq!(gateway.jobs().len(), 5);
    assert_eq!(gateway.jobs()[0].prompt, "Hi");
}

#[test]
fn a_list_of_prompts_is_answered_in_its_order() {
    let echo = |asked: &sconce_core::Generate| vec![token(1, "x"), done(&asked.prompt, 1)];
    let server = Server::start(&Arc::new(FakeGateway::new(echo)), HttpSettings::default());
    let answer = server
        .client
        .post("/invocations", &json!({"inputs": ["a", "b"]}))
        .unwrap();
    assert_eq!(
        answer.text(),
        r#"[{"generated_text": "a"}, {"generated_text": "b"}]"#
    );
}

#[test]
fn bad_requests_are_refused_with_status_and_reason() {
    let (gateway, server) = greeting();
    let cases = [
        (
            r#"{"inputs": "x""#,
            "not valid JSON: EOF while parsing an object at line 1 column 14",
        ),
        ("", "Received payload is empty"),
        (r#"{"inputs": 5}"#, "Received type <class 'int'>"),
        (
            r#"{"inputs": "x", "parameters": {"max_tokens": 5}}"#,
            "did you mean `max_new_tokens`?",
        ),
        (
            r#"{"inputs": "x", "parameters": {"max_new_tokens": 0}}"#,
            "must be an integer from 1",
        ),
        (
            r#"{"inputs": "x", "parameters": {"temperature": -1}}"#,
            "0 means greedy",
        ),
    ];
    for (body, text) in cases {
        let answer = server
            .client
            .post_bytes("/invocations", &[], body.as_bytes())
            .unwrap();
        assert_eq!(answer.status, 424, "{body}");
        let json = answer.json().unwrap();
        assert_eq!(json["code"], 424);
        let error = json["error"].as_str().unwrap();
        assert!(
            error.starts_with("Input Parsing failed. Ensure that the request payload is valid.")
        );
        assert!(error.contains(text), "{body}: {error}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    let get = server.client.get("/invocations").unwrap();
    assert_eq!(get.status, 424);
    assert!(gateway.jobs().is_empty());
}

#[test]
fn unknown_models_and_routes_are_404_in_the_shape_of_the_server() {
    let (_gateway, server) = greeting();
    let ask = |path: &str| server.client.post(path, &json!({"inputs": "x"})).unwrap();
    let check = |answer: Answer, kind: &str, message: &str| {
        assert_eq!(answer.status, 404);
        let wanted = json!({"code": 404, "type": kind, "message": message});
        assert_eq!(answer.json().unwrap(), wanted);
        assert_eq!(answer.header("content-type"), Some("application/json"));
    };
    let route = "Requested resource is not found, please refer to API document.";
    for path in ["/v1/models", "/metrics", "/", "/predictions/"] {
        check(ask(path), "ResourceNotFoundException", route);
    }
    let model = "Model or workflow not found: nope";
    for path in [
        "/predictions/nope",
        "/models/nope/invoke",
        "/invocations?model_name=nope",
    ] {
        check(ask(path), "ModelNotFoundException", model);
    }
    assert_eq!(ask("/predictions/%ff").status, 404);
    assert_eq!(server.client.get("/").unwrap().status, 200);
}

#[test]
fn failures_of_the_gateway_and_of_jobs_have_their_status() {
    let model = || String::from("test");
    let submit_errors = [
        (
            ServeError::QueueFull {
                model: model(),
                limit: 3,
            },
            503,
            "job_queue_size \\u003d 3",
        ),
        (
            ServeError::NotReady {
                model: model(),
                phase: "loading".into(),
            },
            503,
            "(loading)",
        ),
        (
            ServeError::TooLong {
                prompt: 9,
                new: 9,
                limit: 16,
            },
            424,
            "at most 7",
        ),
    ];
    for (error, status, text) in submit_errors {
        let server = Server::start(
            &Arc::new(FakeGateway::refusing(error)),
            HttpSettings::default(),
        );
        let answer = server
            .client
            .post("/invocations", &json!({"inputs": "x"}))
            .unwrap();
        assert_eq!(answer.status, status);
        assert!(answer.text().contains(text), "{}", answer.text());
    }
    let engine = move || ServeError::Engine {
        model: model(),
        cause: "rank 1 died".into(),
    };
    let gateway = FakeGateway::new(move |_| vec![token(1, "a"), failed(engine())]);
    let server = Server::start(&Arc::new(gateway), HttpSettings::default());
    let answer = server
        .client
        .post("/invocations", &json!({"inputs": "x"}))
        .unwrap();
    assert_eq!(
        (answer.status, answer.text()),
        (
            424,
            r#"{"error":"the engine of model test failed: rank 1 died","code":424}"#.into()
        )
    );
    let vanishing = FakeGateway::new(|_| vec![token(1, "a")]);
    let server = Server::start(&Arc::new(vanishing), HttpSettings::default());
    let answer = server
        .client
        .post("/invocations", &json!({"inputs": "x"}))
        .unwrap();
    assert_eq!(answer.status, 424);
    assert!(answer.text().contains("without an answer"));
}

#[test]
fn json_is_read_whatever_the_content_type_says() {
    let (_gateway, server) = greeting();
    let form = ("content-type", "application/x-www-form-urlencoded");
    let post = |header, body: &[u8]| server.client.post_bytes("/invocations", &[header], body);
    let json = br#"{"inputs": "x"}"#;
    for header in [
        form,
        ("content-type", "application/jsonlines"),
        ("x-other", "y"),
    ] {
        assert_eq!(post(header, json).unwrap().status, 200, "{header:?}");
    }
    let answer = post(form, b"inputs=x").unwrap();
    assert_eq!(answer.status, 424);
    assert!(
        answer
            .text()
            .contains("-H 'Content-Type: application/json'"),
        "{}",
        answer.text()
    );
}

#[test]
fn every_answer_carries_the_headers_of_djl() {
    let (_gateway, server) = greeting();
    for path in ["/ping", "/nowhere"] {
        let answer = server.client.get(path).unwrap();
        assert_eq!(answer.header("pragma"), Some("no-cache"));
        let cache = "no-cache; no-store, must-revalidate, private";
        assert_eq!(answer.header("cache-control"), Some(cache));
        assert_eq!(
            answer.header("expires"),
            Some("Thu, 01 Jan 1970 00:00:00 UTC")
        );
        assert_eq!(answer.header("x-request-id").map(str::len), Some(36));
    }
    let own = [("x-request-id", "mine-1")];
    let answer = server
        .client
        .post_bytes("/invocations", &own, b"{}")
        .unwrap();
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
}

#[test]
fn ping_tells_the_truth() {
    let gateway = Arc::new(FakeGateway::greeting());
    let server = Server::start(&gateway, HttpSettings::default());
    let cases = [
        (Phase::Ready, 200, json!({"test": {"status": "Healthy"}})),
        (
            Phase::Loading,
            503,
            json!({"test": {
                "status": "PENDING", "phase": "loading", "bytes_done": 1, "bytes_total": 2
            }}),
        ),
        (
            Phase::Failed("no weights".into()),
            500,
            json!({"test": {"status": "FAILED", "cause": "no weights"}}),
        ),
    ];
    for (phase, status, body) in cases {
        gateway.set_phase(phase);
        for answer in [
            server.client.get("/ping").unwrap(),
            server.client.get("/ping?x=y").unwrap(),
            server.client.post("/ping", &json!({})).unwrap(),
        ] {
            assert_eq!(
                (answer.status, answer.json().unwrap()),
                (status, body.clone())
            );
        }
    }
}
