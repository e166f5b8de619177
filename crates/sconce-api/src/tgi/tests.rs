//! Requests and answers of TGI's API.

use sconce_core::{FinishReason, GenerateParams, MaxTokens, Output, ServeError, Token, TopToken};
use serde_json::{Value, json};

use super::*;
use crate::dialect::{Finished, Stream};
use crate::{Dialect, Incoming, Wire};

fn accept(route: Route, body: &Value) -> Result<Accepted, ServeError> {
    let wire = Wire {
        dialect: Dialect::Tgi,
        ..Wire::default()
    };
    let body = body.to_string();
    wire.accept(&Incoming {
        body: body.as_bytes(),
        route,
        ..Incoming::default()
    })
}

fn params(parameters: Value) -> GenerateParams {
    let body = json!({"inputs": "x", "parameters": parameters});
    let accepted = accept(Route::Generate, &body).expect("a valid request");
    accepted.prompts[0].params.clone()
}

fn refusal(route: Route, body: Value) -> String {
    let Err(error) = accept(route, &body) else {
        panic!("{body} was accepted")
    };
    String::from_utf8(failure(&error)).unwrap()
}

fn output(text: &str) -> Output {
    Output {
        text: text.into(),
        finish: FinishReason::EosToken,
        prompt_tokens: 3,
        generated_tokens: 2,
        seed: Some(9),
        prompt: vec![],
        echo: String::new(),
        matched: None,
        others: Vec::new(),
    }
}

fn token(text: &str, last: bool) -> Token {
    Token {
        id: 7,
        text: text.into(),
        logprob: -0.5,
        spelled: String::new(),
        special: last,
        last,
        top: vec![],
    }
}

fn whole(route: Route, parameters: Value) -> String {
    let body = json!({"inputs": "Hi", "parameters": parameters});
    let Answer::Whole(answer) = accept(route, &body).expect("valid").answer else {
        panic!("not a stream")
    };
    let finished = Finished {
        tokens: vec![token(" you", false), token("", true)],
        output: output(" you"),
    };
    String::from_utf8(answer.body(&[finished])).unwrap()
}

fn stream(body: &Value) -> Box<dyn Stream> {
    match accept(Route::Compatible, body).expect("valid").answer {
        Answer::Stream(stream) => stream,
        Answer::Whole(_) | Answer::Task(_) => panic!("a stream"),
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn whole_answers_are_an_object_or_a_list_of_one() {
    assert_eq!(
        whole(Route::Generate, json!({})),
        r#"{"generated_text":" you"}"#
    );
    assert_eq!(
        whole(Route::Compatible, json!({"return_full_text": true})),
        r#"[{"generated_text":"Hi you"}]"#
    );
    assert_eq!(
        whole(Route::Generate, json!({"details": true})),
        r#"{"generated_text":" you","details":{"finish_reason":"eos_token","generated_tokens":2,"seed":9,"prefill":[],"tokens":[{"id":7,"text":" you","logprob":-0.5,"special":false},{"id":7,"text":"","logprob":-0.5,"special":true}]}}"#
    );
}

#[test]
fn events_are_counted_from_one_and_have_no_space_behind_data() {
    let mut stream =
        stream(&json!({"inputs": "Hi", "stream": true, "parameters": {"details": true}}));
    assert_eq!(stream.content_type(), "text/event-stream");
    assert_eq!(
        text(stream.token(0, token(" you", false))),
        "data:{\"index\":1,\"token\":{\"id\":7,\"text\":\" you\",\"logprob\":-0.5,\"special\":false},\"generated_text\":null,\"details\":null}\n\n"
    );
    assert_eq!(text(stream.token(0, token("", true))), "");
    assert_eq!(
        text(stream.done(0, &output(" you"))),
        "data:{\"index\":2,\"token\":{\"id\":7,\"text\":\"\",\"logprob\":-0.5,\"special\":true},\"generated_text\":\" you\",\"details\":{\"finish_reason\":\"eos_token\",\"generated_tokens\":2,\"seed\":9,\"input_length\":3}}\n\n"
    );
}

#[test]
fn alternatives_are_in_each_event_and_a_failure_is_an_event() {
    let body = json!({"inputs": "Hi", "stream": true, "parameters": {"top_n_tokens": 1}});
    let mut stream = stream(&body);
    let top = TopToken {
        id: 8,
        text: "é".into(),
        logprob: -1.0,
        special: false,
    };
    let with_top = Token {
        top: vec![top],
        ..token("a", false)
    };
    let event = text(stream.token(0, with_top));
    let wanted = r#""top_tokens":[{"id":8,"text":"é","logprob":-1.0,"special":false}]"#;
    assert!(event.contains(wanted), "{event}");
    let error = ServeError::Engine {
        model: "m".into(),
        cause: "c".into(),
    };
    assert_eq!(
        text(stream.fail(&error, 424)),
        "data:{\"error\":\"Request failed during generation: the engine of model m failed: c\",\"error_type\":\"generation\"}\n\n"
    );
}

#[test]
fn the_route_decides_over_stream() {
    let body = json!({"inputs": "Hi", "stream": true});
    let streams = |route| {
        let answer = accept(route, &body).expect("valid").answer;
        matches!(answer, Answer::Stream(_))
    };
    assert!(!streams(Route::Generate) && streams(Route::GenerateStream));
    assert!(streams(Route::Compatible));
}

#[test]
fn any_filter_asks_for_sampling() {
    let samples = |parameters| params(parameters).sampling.do_sample;
    assert_eq!(samples(json!({})), Some(false));
    assert_eq!(samples(json!({"temperature": 1.0})), Some(false));
    for parameters in [
        json!({"temperature": 0.5}),
        json!({"top_k": 3}),
        json!({"top_p": 0.5}),
        json!({"typical_p": 0.5}),
        json!({"do_sample": true}),
    ] {
        assert_eq!(samples(parameters.clone()), Some(true), "{parameters}");
    }
    assert_eq!(params(json!({})).max_tokens, MaxTokens::New(100));
    assert_eq!(params(json!({"truncate": 5})).truncate, Some(5));
}

#[test]
fn refusals_have_the_sentences_of_the_reference() {
    let cases = [
        (
            json!({"temperature": 0}),
            "`temperature` must be strictly positive. Given: 0",
        ),
        (
            json!({"top_p": 1}),
            "`top_p` must be > 0.0 and < 1.0. Given: 1",
        ),
        (
            json!({"typical_p": 0}),
            "`typical_p` must be > 0.0 and < 1.0. Given: 0",
        ),
        (
            json!({"top_k": 0}),
            "`top_k` must be strictly positive. Given: 0",
        ),
        (
            json!({"repetition_penalty": -1}),
            "`repetition_penalty` must be strictly positive",
        ),
        (
            json!({"frequency_penalty": 3}),
            "`frequency_penalty` must be >= -2.0 and <= 2.0",
        ),
        (
            json!({"max_new_tokens": 0}),
            "`max_new_tokens` must be strictly positive",
        ),
        (
            json!({"best_of": 2}),
            "`best_of` != 1 is not allowed for this endpoint",
        ),
        (
            json!({"top_n_tokens": 21}),
            "`top_n_tokens` must be >= 0 and <= 20. Given: 21",
        ),
        (json!({"watermark": true}), "`watermark` is not supported"),
        (json!({"grammar": {"type": "regex"}}), "`grammar` is"),
        (json!({"temprature": 1}), "did you mean `temperature`?"),
    ];
    for (parameters, sentence) in cases {
        let body = refusal(
            Route::Generate,
            json!({"inputs": "x", "parameters": parameters}),
        );
        let beginning = r#"{"error":"Input validation error: "#;
        assert!(
            body.starts_with(beginning) && body.contains(sentence),
            "{body}"
        );
        assert!(body.ends_with(r#""error_type":"validation"}"#), "{body}");
    }
    let empty = refusal(Route::Generate, json!({"inputs": ""}));
    assert!(empty.contains("`inputs` cannot be empty"), "{empty}");
    let body = json!({"inputs": "x", "parameters": {"decoder_input_details": true}});
    let text = refusal(Route::GenerateStream, body);
    assert!(
        text.contains("not supported when streaming tokens"),
        "{text}"
    );
}

#[test]
fn failures_have_the_classes_of_the_reference() {
    let class = |error: &ServeError| {
        let body: Value = serde_json::from_slice(&failure(error)).unwrap();
        body["error_type"].as_str().unwrap().to_owned()
    };
    let full = ServeError::QueueFull {
        model: "m".into(),
        limit: 1,
    };
    assert_eq!(class(&full), "overloaded");
    assert_eq!(
        class(&ServeError::Timeout { seconds: 1 }),
        "incomplete_generation"
    );
    assert_eq!(class(&ServeError::Draining), "healthcheck");
    let long = ServeError::TooLong {
        prompt: 3,
        new: 9,
        limit: 10,
    };
    assert_eq!(
        text(failure(&long)),
        r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 10. Given: 3 `inputs` tokens and 9 `max_new_tokens`","error_type":"validation"}"#
    );
}

#[test]
fn info_has_the_members_of_the_reference() {
    let body = info(&Info {
        model_id: "gpt2",
        model_sha: None,
        max_concurrent_requests: 128,
        max_input_tokens: Some(1023),
        max_total_tokens: Some(1024),
    });
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["model_id"], "gpt2");
    assert_eq!(body["max_total_tokens"], 1024);
    assert_eq!(body["model_pipeline_tag"], "text-generation");
    assert!(body["model_sha"].is_null() && body["version"].is_string());
}
