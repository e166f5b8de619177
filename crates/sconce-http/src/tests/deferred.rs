//! `x-synchronous: false`: submit, poll, page, fail, leave.

use std::sync::Arc;
use std::time::Duration;

use sconce_core::ServeError;
use sconce_testkit::client::Answer;
use sconce_testkit::fakes::{Act, FakeGateway, Gate, PATIENCE, done, failed, hello, token};
use serde_json::{Value, json};

use super::*;

const ATTRIBUTES: &str = "x-amzn-sagemaker-custom-attributes";

fn start(script: Vec<Act>) -> (Arc<FakeGateway>, Server) {
    let gateway = Arc::new(FakeGateway::new(move |_| script.clone()));
    let server = Server::start(&gateway, HttpSettings::default());
    (gateway, server)
}

fn submit(server: &Server, body: &Value) -> String {
    let headers = [
        ("x-synchronous", "false"),
        ("content-type", "application/json"),
    ];
    let body = body.to_string();
    let answer = server
        .client
        .post_bytes("/invocations", &headers, body.as_bytes())
        .unwrap();
    assert_eq!((answer.status, answer.text()), (200, String::new()));
    let token = next(&answer).expect("a token");
    assert_eq!(token.len(), 36);
    token
}

/// The token of an answer, which is in both places or in none.
fn next(answer: &Answer) -> Option<String> {
    let token = answer.header("x-next-token").map(str::to_owned);
    let attribute = answer.header(ATTRIBUTES).map(str::to_owned);
    assert_eq!(
        attribute,
        token.as_ref().map(|token| format!("x-next-token={token}"))
    );
    token
}

fn poll(server: &Server, headers: &[(&str, &str)]) -> Answer {
    server
        .client
        .post_bytes("/invocations", headers, b"")
        .unwrap()
}

/// Polls until there is something.
fn wait(server: &Server, token: &str) -> Answer {
    let began = std::time::Instant::now();
    loop {
        let answer = poll(server, &[("x-starting-token", token)]);
        if answer.status != 202 {
            return answer;
        }
        assert_eq!(next(&answer).as_deref(), Some(token), "the same place");
        assert_eq!(answer.text(), "");
        assert!(began.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_whole_answer_is_fetched_later_and_ends() {
    let gate = Gate::default();
    let mut script = vec![Act::Await(gate.clone())];
    script.extend(hello());
    let (_gateway, server) = start(script);
    let token = submit(&server, &json!({"inputs": "x"}));
    let mut raw = server.client.raw().unwrap();
    let head = format!("GET /invocations HTTP/1.1\r\nhost: x\r\nx-starting-token: {token}\r\n\r\n");
    raw.send(head.as_bytes()).unwrap();
    let answer = raw.read_until("\r\n\r\n").unwrap();
    let reason = "HTTP/1.1 202 The model result is not yet available\r\n";
    assert!(answer.starts_with(reason), "{answer}");
    gate.open();
    for _ in 0..2 {
        let answer = wait(&server, &token);
        let body = r#"{"generated_text": "Hello world"}"#.to_owned();
        assert_eq!((answer.status, answer.text()), (200, body));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(
            next(&answer),
            None,
            "a client that goes on until no token comes must end"
        );
    }
}

#[test]
fn a_stream_is_read_page_by_page() {
    let gate = Gate::default();
    let script = vec![
        token(1, "a"),
        token(2, "b"),
        Act::Await(gate.clone()),
        token(3, "c"),
        done("abc", 3),
    ];
    let (_gateway, server) = start(script);
    // SageMaker passes nothing but custom attributes on.
    let attributes = [(ATTRIBUTES, "x-synchronous=false;other=1")];
    let body = json!({"inputs": "x", "stream": true}).to_string();
    let path = "/predictions/test";
    let answer = server
        .client
        .post_bytes(path, &attributes, body.as_bytes())
        .unwrap();
    let first = next(&answer).unwrap();
    let answer = wait(&server, &first);
    assert_eq!(answer.header("content-type"), Some("application/jsonlines"));
    assert!(
        answer.text().starts_with(r#"{"token": {"id": 1, "#),
        "{}",
        answer.text()
    );
    gate.open();
    let mut lines = Vec::new();
    let mut token = Some(first);
    while let Some(at) = token {
        let attribute = format!("x-starting-token={at};x-max-items=1");
        let answer = poll(&server, &[(ATTRIBUTES, &attribute)]);
        token = next(&answer);
        lines.extend(answer.text().lines().map(str::to_owned));
    }
    assert_eq!(lines.len(), 3);
    assert!(lines[2].contains(r#""generated_text": "abc""#), "{lines:?}");
}

#[test]
fn a_failure_is_kept_with_the_status_it_has() {
    let (_gateway, server) = start(vec![failed(ServeError::Engine {
        model: "test".into(),
        cause: "no luck".into(),
    })]);
    for stream in [false, true] {
        let token = submit(&server, &json!({"inputs": "x", "stream": stream}));
        let answer = wait(&server, &token);
        assert_eq!(answer.status, 424);
        assert!(answer.text().contains("no luck"), "{}", answer.text());
        assert_eq!(next(&answer), None);
    }
}

#[test]
fn what_cannot_be_queued_is_refused_at_once() {
    let full = ServeError::QueueFull {
        model: "test".into(),
        limit: 1,
    };
    let server = Server::start(
        &Arc::new(FakeGateway::refusing(full)),
        HttpSettings::default(),
    );
    let headers = [("x-synchronous", "false")];
    for (body, status) in [(r#"{"inputs": "x"}"#, 503), ("{}", 424)] {
        let post = server
            .client
            .post_bytes("/invocations", &headers, body.as_bytes());
        let answer = post.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(next(&answer), None);
    }
}

#[test]
fn a_job_outlives_its_client_but_not_its_result() {
    let gateway = Arc::new(FakeGateway::new(|_| {
        vec![token(1, "a"), token(2, "b"), Act::UntilGone]
    }));
    let settings = HttpSettings {
        results: crate::ResultLimits {
            capacity: 1,
            ..Default::default()
        },
        ..HttpSettings::default()
    };
    let server = Server::start(&gateway, settings);
    let mut raw = server.client.raw().unwrap();
    let body = r#"{"inputs": "x", "stream": true}"#;
    let length = body.len();
    let head = format!(
        "POST /invocations HTTP/1.1\r\nhost: x\r\nx-synchronous: false\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    raw.send(head.as_bytes()).unwrap();
    let answer = raw.read_until("\r\n\r\n").unwrap();
    drop(raw);
    let at = answer.find("x-next-token: ").unwrap() + 14;
    let first = &answer[at..at + 36];
    assert_eq!(wait(&server, first).status, 200);
    assert!(!gateway.gone().is_open());
    submit(&server, &json!({"inputs": "y"}));
    assert!(gateway.gone().wait(), "its result gave way");
    assert_eq!(poll(&server, &[("x-starting-token", first)]).status, 400);
}
