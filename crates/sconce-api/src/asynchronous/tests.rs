//! What the recorded conversations do not have.

use sconce_core::{GenerateParams, MaxTokens, ServeError};
use serde_json::{Value, json};

use crate::{Accepted, Answer, Dialect, Incoming, Wire};

const WIRE: Wire = Wire {
    dialect: Dialect::Async,
    formatter: None,
    streaming: false,
    stop_sequences: Vec::new(),
};

fn accept(body: &Value) -> Result<Accepted, ServeError> {
    let body = body.to_string();
    WIRE.accept(&Incoming {
        body: body.as_bytes(),
        ..Incoming::default()
    })
}

fn params(parameters: Value) -> GenerateParams {
    let accepted = accept(&json!({"inputs": "x", "parameters": parameters}));
    accepted.expect("a valid request").prompts[0].params.clone()
}

fn refusal(body: Value) -> String {
    let Err(error) = accept(&body) else {
        panic!("{body} was accepted")
    };
    String::from_utf8(WIRE.failure(&error, 424)).unwrap()
}

#[test]
fn answers_are_sampled_unless_the_request_says_otherwise() {
    let samples = |parameters| params(parameters).sampling.do_sample;
    assert_eq!(samples(json!({})), Some(true));
    assert_eq!(samples(json!({"temperature": 0})), Some(false));
    assert_eq!(
        samples(json!({"do_sample": false, "temperature": 0.7})),
        Some(false)
    );
}

#[test]
fn names_of_lmi_and_of_vllm_are_both_understood() {
    let params =
        params(json!({"max_tokens": 5, "stop_sequences": ["a"], "stop": "b", "truncate": 3}));
    assert_eq!(params.max_tokens, MaxTokens::New(5));
    assert_eq!(params.stop.sequences, ["a", "b"]);
    assert_eq!(params.truncate, Some(3));
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let cases = [
        (
            json!({"inputs": ["a", "b"]}),
            "answers the first of several only",
        ),
        (
            json!({"inputs": "x", "parameters": {"top_n_tokens": 2}}),
            "`top_n_tokens` is 2",
        ),
        (json!({"inputs": "x", "parameters": {"n": 2}}), "`n` is 2"),
        (
            json!({"inputs": "x", "parameters": {"stream": true}}),
            "outside of `parameters`",
        ),
        (json!({}), "specifying the 'inputs' field"),
    ];
    for (body, wanted) in cases {
        let text = refusal(body);
        let beginning = r#"{"error":"Input parsing failed: "#;
        assert!(
            text.starts_with(beginning) && text.contains(wanted),
            "{text}"
        );
        assert!(text.ends_with(r#","code":424}"#), "{text}");
    }
}

#[test]
fn a_failure_in_a_stream_is_a_line_of_its_own() {
    let Answer::Stream(mut stream) = accept(&json!({"inputs": "x", "stream": true}))
        .expect("valid")
        .answer
    else {
        panic!("a stream")
    };
    let line = String::from_utf8(stream.fail(&ServeError::Draining, 503)).unwrap();
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["error"]["code"], 503);
    assert!(line.starts_with("{\"error\": {\"message\": \"the server") && line.ends_with("}\n"));
}
