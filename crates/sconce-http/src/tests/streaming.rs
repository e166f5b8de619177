//! Streamed answers: as they come, whole at the end, and cut off by either side.

use std::sync::Arc;
use std::time::Duration;

use sconce_core::{Manner, ServeError};
use sconce_testkit::fakes::{Act, FakeGateway, Gate, done, failed, token};
use serde_json::json;

use super::*;

fn start(script: Vec<Act>) -> (Arc<FakeGateway>, Server) {
    let gateway = Arc::new(FakeGateway::new(move |_| script.clone()));
    let server = Server::start(&gateway, HttpSettings::default());
    (gateway, server)
}

#[test]
fn tokens_arrive_before_the_generation_has_ended() {
    let gate = Gate::default();
    let waits = Act::Await(gate.clone());
    let script = vec![
        token(1, "a"),
        waits,
        token(2, "b"),
        token(3, "c"),
        done("abc", 3),
    ];
    let (_gateway, server) = start(script);
    let mut stream = server
        .client
        .stream("/invocations", &json!({"inputs": "x", "stream": true}))
        .unwrap();
    assert_eq!(stream.status, 200);
    assert_eq!(stream.headers["content-type"], "application/jsonlines");
    assert_eq!(stream.headers["transfer-encoding"], "chunked");
    let (_, first) = stream.line().unwrap().unwrap();
    assert_eq!(
        first,
        r#"{"token": {"id": 1, "text": "a", "log_prob": -0.5}}"#
    );
    assert!(
        !gate.is_open(),
        "the line came while the model was still at work"
    );
    gate.open();
    let rest: Vec<_> = stream
        .lines()
        .unwrap()
        .into_iter()
        .map(|(_, line)| line)
        .collect();
    assert_eq!(
        rest,
        [
            r#"{"token": {"id": 2, "text": "b", "log_prob": -0.5}}"#,
            r#"{"token": {"id": 3, "text": "c", "log_prob": -0.5}, "generated_text": "abc"}"#,
        ]
    );
}

#[test]
fn server_sent_events_have_their_content_type_and_frame() {
    let (_gateway, server) = start(vec![token(1, "a"), done("a", 1)]);
    let parameters = json!({"output_formatter": "sse"});
    let body = json!({"inputs": "x", "parameters": parameters});
    let mut stream = server.client.stream("/invocations", &body).unwrap();
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    let lines = stream.lines().unwrap();
    assert!(
        lines[0].1.starts_with(r#"data: {"token": {"id": 1, "#),
        "{lines:?}"
    );
    assert_eq!(lines[1].1, "");
}

#[test]
fn a_failure_before_the_first_token_has_a_status() {
    let (_gateway, server) = start(vec![failed(ServeError::Timeout { seconds: 7 })]);
    let body = json!({"inputs": "x", "stream": true});
    let answer = server.client.post("/invocations", &body).unwrap();
    assert_eq!(answer.status, 503);
    assert!(
        answer.text().contains("predict_timeout \\u003d 7 s"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_failure_after_the_first_token_is_the_last_line() {
    let error = ServeError::Engine {
        model: "test".into(),
        cause: "out of luck".into(),
    };
    let (_gateway, server) = start(vec![token(1, "a"), failed(error)]);
    let body = json!({"inputs": "x", "stream": true});
    let mut stream = server.client.stream("/invocations", &body).unwrap();
    assert_eq!(stream.status, 200);
    let lines = stream.lines().unwrap();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        lines[1].1,
        r#"{"error":"the engine of model test failed: out of luck","code":424}"#
    );
}

#[test]
fn a_client_that_leaves_is_seen_by_the_job() {
    let (gateway, server) = start(vec![token(1, "a"), token(2, "b"), Act::UntilGone]);
    let body = json!({"inputs": "x", "stream": true});
    let mut stream = server.client.stream("/invocations", &body).unwrap();
    stream.line().unwrap().unwrap();
    assert!(!gateway.gone().is_open());
    drop(stream);
    assert!(
        gateway.gone().wait(),
        "the reply tells that the client has gone"
    );

    let (gateway, server) = start(vec![Act::UntilGone]);
    let mut raw = server.client.raw().unwrap();
    raw.send(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 15\r\n\r\n")
        .unwrap();
    raw.send(br#"{"inputs": "x"}"#).unwrap();
    while gateway.jobs().is_empty() {
        std::thread::yield_now();
    }
    drop(raw);
    assert!(
        gateway.gone().wait(),
        "also while nothing has been sent yet"
    );
}

#[test]
fn an_answer_that_comes_too_late_is_not_waited_for() {
    let manner = Manner {
        predict_timeout: Duration::from_millis(1),
        ..Manner::default()
    };
    let gateway = FakeGateway::new(|_| vec![Act::UntilGone]).spoken_to("test", manner);
    let gateway = Arc::new(gateway);
    let server = Server::start(&gateway, HttpSettings::default());
    for stream in [false, true] {
        let body = json!({"inputs": "x", "stream": stream});
        let answer = server.client.post("/invocations", &body).unwrap();
        assert_eq!(answer.status, 503);
        assert!(
            answer.text().contains("predict_timeout"),
            "{}",
            answer.text()
        );
    }
    assert!(gateway.gone().wait());
}

#[test]
fn a_stream_that_pauses_for_too_long_ends_with_an_error_and_a_whole_answer_may_pause() {
    let start = |script: Vec<Act>| {
        let gateway = Arc::new(FakeGateway::new(move |_| script.clone()));
        let settings = HttpSettings {
            chunked_read_timeout: Duration::from_millis(30),
            ..HttpSettings::default()
        };
        (Arc::clone(&gateway), Server::start(&gateway, settings))
    };
    let body = json!({"inputs": "x", "stream": true});
    let (gateway, server) = start(vec![Act::UntilGone]);
    let answer = server.client.post("/invocations", &body).unwrap();
    assert_eq!(answer.status, 503);
    let text = answer.text();
    assert!(text.contains("chunked_read_timeout \\u003d 0 s"), "{text}");
    assert!(gateway.gone().wait());

    let (gateway, server) = start(vec![token(1, "a"), token(2, "b"), Act::UntilGone]);
    let mut stream = server.client.stream("/invocations", &body).unwrap();
    assert_eq!(stream.status, 200);
    let lines = stream.lines().unwrap();
    let (_, last) = lines.last().unwrap();
    assert!(last.contains("chunked_read_timeout"), "{last}");
    assert!(last.ends_with(r#""code":503}"#), "{last}");
    assert!(gateway.gone().wait());

    let gate = Gate::default();
    let (_gateway, server) = start(vec![Act::Await(gate.clone()), token(1, "a"), done("a", 1)]);
    let opening = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(60));
        gate.open();
    });
    let answer = server
        .client
        .post("/invocations", &json!({"inputs": "x"}))
        .unwrap();
    assert_eq!(answer.status, 200);
    opening.join().unwrap();
}
