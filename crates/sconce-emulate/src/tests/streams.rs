//! InvokeEndpointWithResponseStream, read with AWS's own decoder.

use std::num::NonZeroUsize;
use std::time::Duration;

use aws_smithy_eventstream::frame::read_message_from;
use aws_smithy_types::event_stream::Message;
use axum::body::{Body, Bytes};
use axum::response::IntoResponse;
use futures_util::{StreamExt, stream};
use sconce_testkit::client::Answer;
use serde_json::Value;

use super::{Container, Emulator, chunks};

/// The frames of an answer.
fn frames(answer: &Answer) -> Vec<Message> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/vnd.amazon.eventstream")
    );
    let mut rest = Bytes::from(answer.body.clone());
    let mut frames = Vec::new();
    while !rest.is_empty() {
        frames.push(read_message_from(&mut rest).expect("a whole frame"));
    }
    frames
}

fn header<'a>(frame: &'a Message, name: &str) -> &'a str {
    let mut headers = frame.headers().iter();
    let found = headers.find(|header| header.name().as_str() == name);
    found
        .expect(name)
        .value()
        .as_string()
        .expect("text")
        .as_str()
}

/// The payload parts as texts; anything else fails.
fn parts(frames: &[Message]) -> Vec<String> {
    let part = |frame: &Message| {
        assert_eq!(header(frame, ":message-type"), "event");
        assert_eq!(header(frame, ":event-type"), "PayloadPart");
        String::from_utf8_lossy(frame.payload()).into_owned()
    };
    frames.iter().map(part).collect()
}

/// Name and body of an exception.
fn exception(frame: &Message) -> (&str, Value) {
    assert_eq!(header(frame, ":message-type"), "exception");
    assert_eq!(header(frame, ":content-type"), "application/json");
    let body = serde_json::from_slice(frame.payload()).expect("JSON");
    (header(frame, ":exception-type"), body)
}

fn jsonlines(body: Body) -> axum::response::Response {
    ([("content-type", "application/jsonlines")], body).into_response()
}

#[test]
fn a_stream_comes_in_parts_with_the_type_in_a_header_of_its_own() {
    let container =
        Container::new(|_| jsonlines(chunks(&["{\"a\":1}\n", "{\"b\":\"ä\"}\n"], true)));
    let emulator = Emulator::start(&container, |_| {});
    let headers = [("x-amzn-sagemaker-accept", "application/jsonlines")];
    let answer = emulator.stream(&headers, b"{}");
    assert_eq!(
        answer.header("x-amzn-sagemaker-content-type"),
        Some("application/jsonlines")
    );
    assert_eq!(
        answer.header("x-amzn-invoked-production-variant"),
        Some("AllTraffic")
    );
    assert_eq!(
        parts(&frames(&answer)).concat(),
        "{\"a\":1}\n{\"b\":\"ä\"}\n"
    );
    let seen = &container.seen()[0];
    assert_eq!(seen.headers["accept"], "application/jsonlines");
    let api = &seen.headers["x-amzn-sagemaker-forwarded-api"];
    assert_eq!(api, "InvokeEndpointWithResponseStream");
}

#[test]
fn parts_can_be_cut_at_every_byte_and_lose_nothing() {
    let text = "{\"token\": \"Grüße 🎉\"}\n";
    let container = Container::new(move |_| jsonlines(Body::from(text)));
    for length in [1, 3, 7, text.len(), 1000] {
        let emulator = Emulator::start(&container, |settings| {
            settings.rechunk = NonZeroUsize::new(length);
        });
        let frames = frames(&emulator.stream(&[], b"{}"));
        assert_eq!(frames.len(), text.len().div_ceil(length));
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|frame| frame.payload().to_vec())
            .collect();
        assert_eq!(bytes, text.as_bytes(), "{length}");
    }
}

#[test]
fn a_stream_that_takes_too_long_ends_with_a_model_stream_error() {
    let container = Container::new(|_| jsonlines(chunks(&["one\n"], false)));
    let emulator = Emulator::start(&container, |settings| {
        settings.stream_timeout = Duration::from_secs(1);
    });
    let frames = frames(&emulator.stream(&[], b"{}"));
    let (last, first) = frames.split_last().expect("frames");
    assert_eq!(parts(first).concat(), "one\n");
    let (name, body) = exception(last);
    assert_eq!(name, "ModelStreamError");
    assert_eq!(body["ErrorCode"], "ModelInvocationTimeExceeded");
}

#[test]
fn a_stream_that_breaks_off_ends_with_stream_broken() {
    let container = Container::new(|_| {
        let broken = stream::iter([0, 1]).then(async |at| {
            if at == 0 {
                return Ok("one\n");
            }
            // Lets the first piece leave.
            tokio::task::yield_now().await;
            Err(std::io::Error::other("the process died"))
        });
        jsonlines(Body::from_stream(broken))
    });
    let emulator = Emulator::start(&container, |_| {});
    let frames = frames(&emulator.stream(&[], b"{}"));
    let (name, body) = exception(frames.last().expect("frames"));
    assert_eq!(
        (name, &body["ErrorCode"]),
        ("ModelStreamError", &"StreamBroken".into())
    );
}
