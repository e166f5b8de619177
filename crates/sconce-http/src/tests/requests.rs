//! What goes in and what comes out: answers, refusals, headers.

use std::sync::Arc;

use sconce_core::{Prompt, ServeError};
use sconce_testkit::fakes::{FakeGateway, done, failed, token};
use serde_json::json;

use super::*;

fn greeting() -> (Arc<FakeGateway>, Server) {
    let gateway = Arc::new(FakeGateway::greeting());
    let server = Server::start(&gateway, HttpSettings::default());
    (gateway, server)
}

#[test]
fn a_list_of_prompts_is_answered_in_its_order() {
    let echo = |asked: &sconce_core::Generate| {
        let Prompt::Text(text) = &asked.prompt else {
            panic!("no text");
        };
        vec![token(1, "x"), done(text, 1)]
    };
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
fn prompts_come_in_every_content_type_that_has_text() {
    let (gateway, server) = greeting();
    let form = "application/x-www-form-urlencoded";
    let json: &[u8] = br#"{"inputs": "x"}"#;
    let part = b"--B\r\nContent-Disposition: form-data; name=\"inputs\"\r\n\r\nx\r\n--B--\r\n";
    let cases: [(&str, &[u8]); 9] = [
        ("application/json; charset=utf-8", json),
        ("application/jsonlines", json),
        ("application/octet-stream", json),
        ("x", json),
        (form, json),
        (form, b"inputs=x&stream=false"),
        ("multipart/form-data; boundary=B", part),
        ("text/plain", b"x"),
        ("text/csv", b"inputs\nx\n"),
    ];
    for (kind, body) in cases {
        let headers = [("content-type", kind)];
        let answer = server
            .client
            .post_bytes("/invocations", &headers, body)
            .unwrap();
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
        assert_eq!(gateway.jobs().pop().unwrap().prompt, "x".into(), "{kind}");
    }
    assert_eq!(
        server
            .client
            .post_bytes("/invocations", &[], json)
            .unwrap()
            .status,
        200
    );
    assert_eq!(
        server.client.get("/invocations?inputs=x").unwrap().status,
        200
    );
}

#[test]
fn accept_changes_nothing() {
    let (_gateway, server) = greeting();
    for kind in [
        "*/*",
        "application/json",
        "application/jsonlines",
        "text/event-stream",
        "application/json, text/csv;q=0.5",
        "image/png",
        "tensor/ndlist",
        "nonsense",
    ] {
        let headers = [("accept", kind), ("content-type", "application/json")];
        let body = br#"{"inputs": "x"}"#;
        let answer = server
            .client
            .post_bytes("/invocations", &headers, body)
            .unwrap();
        assert_eq!(answer.status, 200, "{kind}");
        assert_eq!(
            answer.header("content-type"),
            Some("application/json"),
            "{kind}"
        );
    }
}
