//! A model whose own code answers: what it gets of a request, and what a client gets of its answer.

use std::sync::{Arc, Mutex};

use sconce_core::{Event, RawEvent, RawHead, RawInput, ServeError};
use sconce_testkit::fakes::{Act, FakeGateway, Gate, failed};
use serde_json::json;

use super::*;

fn head(code: u16, message: &str, properties: &[(&str, &str)], streams: bool) -> Act {
    let pair = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
    Act::Send(Event::Raw(RawEvent::Head(RawHead {
        code,
        message: message.into(),
        properties: properties.iter().map(pair).collect(),
        streams,
    })))
}

fn chunk(text: &'static str) -> Act {
    Act::Send(Event::Raw(RawEvent::Chunk(text.into())))
}

fn end() -> Act {
    Act::Send(Event::Raw(RawEvent::End))
}

fn answering(script: Vec<Act>) -> Server {
    let gateway = Arc::new(FakeGateway::raw(move |_| script.clone()));
    Server::start(&gateway, HttpSettings::default())
}

/// A server whose model keeps what it is asked.
fn keeping() -> (Server, Arc<Mutex<Vec<RawInput>>>) {
    let kept: Arc<Mutex<Vec<RawInput>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let gateway = Arc::new(FakeGateway::raw(move |input| {
        keep.lock().unwrap().push(input.clone());
        vec![head(200, "OK", &[], false), chunk("kept"), end()]
    }));
    (Server::start(&gateway, HttpSettings::default()), kept)
}

#[test]
fn a_request_is_handed_on_as_it_is() {
    let (server, kept) = keeping();
    let headers = [
        ("Content-Type", "image/png"),
        ("x-amzn-sagemaker-custom-attributes", "a=1;b = 2"),
        ("content-encoding", "gzip"),
        ("x-request-id", "me-1"),
    ];
    let body = [0_u8, 159, 146, 150];
    let path = "/predictions/test?k=v%20w";
    let answer = server.client.post_bytes(path, &headers, &body).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "kept"));
    let kept = kept.lock().unwrap();
    let content: Vec<_> = kept[0]
        .content
        .iter()
        .map(|(key, value)| (key.as_str(), value.to_vec()))
        .collect();
    assert_eq!(content, [("k", b"v w".to_vec()), ("data", body.to_vec())]);
    let property = |name: &str| {
        let found = kept[0].properties.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    };
    assert_eq!(property("Content-Type"), Some("image/png"));
    assert_eq!(property("a"), Some("1"));
    assert_eq!(property("b"), Some("2"));
    assert_eq!(property("requestId"), Some("me-1"));
    assert_eq!(property("X-Amzn-SageMaker-Custom-Attributes"), None);
}

#[test]
fn json_that_curl_calls_a_form_is_json() {
    let (server, kept) = keeping();
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let body = br#"{"inputs": "a=b&c"}"#;
    server
        .client
        .post_bytes("/invocations", &headers, body)
        .unwrap();
    let kept = kept.lock().unwrap();
    assert_eq!(kept[0].content, [("data".to_owned(), body.to_vec().into())]);
    let mut kinds = kept[0].properties.iter().rev();
    let kind = kinds.find(|(key, _)| key == "Content-Type").unwrap();
    assert_eq!(kind.1, "application/json");
}

#[test]
fn status_reason_and_properties_are_the_handler_s() {
    let properties = [
        ("content-type", "text/x-mine"),
        ("x-mine", "1"),
        ("connection", "x"),
    ];
    let server = answering(vec![
        head(207, "as I like it", &properties, false),
        chunk("body"),
        end(),
    ]);
    let mut connection = server.client.raw().unwrap();
    let request = b"POST /invocations HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                    content-length: 0\r\n\r\n";
    connection.send(request).unwrap();
    let text = connection.read_to_end().unwrap();
    assert!(text.starts_with("HTTP/1.1 207 as I like it\r\n"), "{text}");
    for part in [
        "content-type: text/x-mine\r\n",
        "x-mine: 1\r\n",
        "content-length: 4\r\n",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(text.ends_with("\r\n\r\nbody"), "{text}");
}

#[test]
fn none_is_204_without_a_body_or_a_type() {
    let server = answering(vec![head(204, "No content", &[], false), chunk(""), end()]);
    let answer = server.client.post("/invocations", &json!({})).unwrap();
    assert_eq!(answer.status, 204);
    assert!(answer.body.is_empty());
    assert_eq!(answer.header("content-type"), None);
}

#[test]
fn parts_of_a_stream_are_sent_as_they_come() {
    let gate = Gate::default();
    let server = answering(vec![
        head(200, "OK", &[("content-type", "text/plain")], true),
        chunk("a\n"),
        Act::Await(gate.clone()),
        chunk("b\n"),
        end(),
    ]);
    let mut stream = server.client.stream("/invocations", &json!({})).unwrap();
    assert_eq!(stream.headers["transfer-encoding"], "chunked");
    let (_, first) = stream.line().unwrap().unwrap();
    assert_eq!(first, "a");
    assert!(!gate.is_open());
    gate.open();
    let rest: Vec<_> = stream
        .lines()
        .unwrap()
        .into_iter()
        .map(|(_, line)| line)
        .collect();
    assert_eq!(rest, ["b"]);
}

#[test]
fn failures_before_the_first_part_have_a_status_and_later_ones_break_the_body_off() {
    let lost = || {
        failed(ServeError::WorkerLost {
            model: "test".into(),
            cause: "was killed by signal 11 (SIGSEGV)".into(),
        })
    };
    for script in [vec![lost()], vec![head(200, "OK", &[], true), lost()]] {
        let answer = answering(script)
            .client
            .post("/invocations", &json!({}))
            .unwrap();
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert!(answer.text().contains("WlmException"), "{}", answer.text());
        assert!(
            answer.text().contains("signal 11 (SIGSEGV)"),
            "{}",
            answer.text()
        );
    }
    let server = answering(vec![head(200, "OK", &[], true), chunk("a"), lost()]);
    let mut connection = server.client.raw().unwrap();
    let request = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    connection.send(request).unwrap();
    let text = connection.read_to_end().unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    // A complete body would end with a part of length 0.
    assert!(
        text.contains("\r\n\r\n1\r\na") && !text.contains("0\r\n\r\n"),
        "{text}"
    );
}

#[test]
fn an_answer_can_be_fetched_later_with_its_head() {
    let server = answering(vec![
        head(201, "made", &[("x-mine", "1")], false),
        chunk("later"),
        end(),
    ]);
    let headers = [("x-synchronous", "false")];
    let answer = server
        .client
        .post_bytes("/invocations", &headers, b"")
        .unwrap();
    let token = answer.header("x-next-token").unwrap().to_owned();
    let poll = [("x-starting-token", token.as_str())];
    loop {
        let answer = server
            .client
            .post_bytes("/invocations", &poll, b"")
            .unwrap();
        if answer.status == 202 {
            continue;
        }
        assert_eq!((answer.status, answer.text().as_str()), (201, "later"));
        assert_eq!(answer.header("x-mine"), Some("1"));
        break;
    }
}

#[test]
fn routes_that_ask_for_text_do_not_exist_for_it() {
    let (server, _kept) = keeping();
    let answer = server
        .client
        .post("/generate", &json!({"inputs": "x"}))
        .unwrap();
    assert_eq!(answer.status, 404);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = server
        .client
        .post_bytes("/invocations", &form, b"model_name=other&a=1");
    assert_eq!(answer.unwrap().status, 404);
}
