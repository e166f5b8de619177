//! Requests as clients send them, good and bad.

use proptest::prelude::*;
use sconce_core::{BeamSearch, EarlyStopping, FinishReason, MaxTokens, Output, Token};
use serde_json::{Value, json};

use super::*;
use crate::dialect::Incoming;
use crate::{error, payload};

fn parsed(body: &[u8], formatter: Option<Formatter>) -> Result<Request, ServeError> {
    let incoming = Incoming {
        body,
        ..Incoming::default()
    };
    parse(payload::read(&incoming)?, formatter, Spelling::Lmi)
}

pub(super) fn request(body: &str) -> Request {
    parsed(body.as_bytes(), None).expect("a valid request")
}

pub(super) fn token(id: u32, text: &str, logprob: f32) -> Token {
    Token {
        id,
        text: text.into(),
        logprob,
        spelled: String::new(),
        special: false,
        last: false,
        top: vec![],
    }
}

pub(super) fn last(id: u32, text: &str, logprob: f32) -> Token {
    Token {
        last: true,
        ..token(id, text, logprob)
    }
}

pub(super) fn done(text: &str, generated_tokens: usize) -> Output {
    Output {
        text: text.into(),
        finish: FinishReason::Length,
        prompt_tokens: 1,
        generated_tokens,
        seed: None,
        prompt: vec![],
        echo: String::new(),
        matched: None,
        others: Vec::new(),
    }
}

fn params(parameters: Value) -> GenerateParams {
    request(&json!({"inputs": "x", "parameters": parameters}).to_string()).params
}

fn refusal(body: &str) -> String {
    let error = parsed(body.as_bytes(), None).expect_err(body);
    String::from_utf8(error::lmi(&error, 424)).unwrap()
}

#[test]
fn a_bare_request_has_the_defaults_of_the_schema() {
    for body in [
        r#"{"inputs": "Hi"}"#,
        r#"{"inputs": "Hi", "parameters": null, "stream": null}"#,
    ] {
        let request = request(body);
        assert_eq!(request.prompts.texts, ["Hi"]);
        assert_eq!(request.params, GenerateParams::default());
        assert_eq!(
            request.rendering,
            Rendering {
                formatter: Formatter::Json,
                spelling: Spelling::Lmi,
                details: None,
                full_text: false,
                n: 1,
                best_of: 1,
                jobs: 1,
            }
        );
    }
}

#[test]
fn every_parameter_arrives_where_it_belongs() {
    let params = params(json!({
        "max_new_tokens": 64.0, "min_new_tokens": 2, "truncate": 9, "do_sample": true, "temperature": 0.5,
        "top_k": 40, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8, "repetition_penalty": 1.2,
        "frequency_penalty": -0.5, "presence_penalty": 2, "seed": u64::MAX,
        "stop_sequences": ["a"], "stop": "b", "stop_token_ids": [5],
        "include_stop_str_in_output": true, "ignore_eos_token": true, "details": true,
        "decoder_input_details": true, "top_n_tokens": 3, "skip_special_tokens": false,
    }));
    assert_eq!(params.max_tokens, MaxTokens::New(64));
    assert_eq!((params.min_new_tokens, params.truncate), (2, Some(9)));
    let sampling = sconce_core::AskedSampling {
        do_sample: Some(true),
        temperature: Some(0.5),
        top_k: Some(40),
        top_p: Some(0.9),
        min_p: Some(0.1),
        typical_p: Some(0.8),
        repetition_penalty: Some(1.2),
        frequency_penalty: Some(-0.5),
        presence_penalty: Some(2.0),
        logit_bias: None,
        seed: Some(u64::MAX),
    };
    assert_eq!(params.sampling, sampling);
    assert_eq!(params.stop.sequences, ["a", "b"]);
    assert_eq!(params.stop.token_ids, [5]);
    assert!(params.stop.keep_in_text && params.stop.ignore_eos);
    assert!(params.report.prompt_logprobs && !params.report.skip_special_tokens);
    assert_eq!(params.report.top_n_tokens, 3);
}

/// What is sampled when the model has no defaults of its own.
fn sampling(parameters: Value) -> sconce_core::Sampling {
    let asked = params(parameters).sampling;
    asked.over(&sconce_core::Sampling::default())
}

#[test]
fn sampling_is_on_when_asked_for_or_when_a_temperature_is_given() {
    let cases = [
        (json!({}), false),
        (json!({"top_p": 0.5}), false),
        (json!({"temperature": 0.7}), true),
        (json!({"temperature": 0}), false),
        (json!({"temperature": 1e-9}), false),
        (json!({"do_sample": true}), true),
        (json!({"do_sample": true, "temperature": 0.0}), false),
        (json!({"do_sample": false, "temperature": 0.7}), false),
    ];
    for (parameters, wanted) in cases {
        assert_eq!(
            sampling(parameters.clone()).do_sample,
            wanted,
            "{parameters}"
        );
    }
}

#[test]
fn alternatives_are_reported_inside_details_only() {
    let top = |parameters| params(parameters).report.top_n_tokens;
    assert_eq!(top(json!({"top_n_tokens": 4})), 0);
    assert_eq!(top(json!({"details": true, "logprobs": 4})), 4);
    assert_eq!(top(json!({"details": true, "logprobs": true})), 0);
    assert_eq!(
        top(json!({"details": true, "logprobs": 4, "top_n_tokens": 2})),
        2
    );
}

#[test]
fn the_formatter_of_the_request_wins_over_that_of_the_model_and_over_stream() {
    let formatter = |body: &str, model| parsed(body.as_bytes(), model).unwrap().rendering.formatter;
    let streaming = r#"{"inputs": "x", "stream": true}"#;
    assert_eq!(formatter(streaming, None), Formatter::JsonLines);
    assert_eq!(formatter(streaming, Some(Formatter::Sse)), Formatter::Sse);
    let inside = r#"{"inputs": "x", "parameters": {"stream": true}}"#;
    assert_eq!(formatter(inside, None), Formatter::JsonLines);
    let json = r#"{"inputs": "x", "stream": true, "parameters": {"output_formatter": "json"}}"#;
    assert_eq!(formatter(json, Some(Formatter::Sse)), Formatter::Json);
}

#[test]
fn neutral_values_of_what_is_missing_are_accepted() {
    params(json!({
        "n": 1, "best_of": 1.0, "num_beams": 1, "length_penalty": 1, "early_stopping": false,
        "watermark": false, "adapters": [], "guided_json": null, "truncate": null, "top_k": -1,
        "use_cache": true, "spaces_between_special_tokens": true, "prompt_logprobs": 0,
    }));
}

#[test]
fn beams_are_answers_of_one_search() {
    let all = parsed(
        br#"{"inputs": "x", "parameters": {"num_beams": 3, "length_penalty": 0.5}}"#,
        None,
    );
    let all = all.unwrap();
    let search = BeamSearch {
        beams: 3,
        key: "num_beams",
        returned: 3,
        length_penalty: 0.5,
        early_stopping: EarlyStopping::Likely,
    };
    assert_eq!(all.params.beams, Some(search));
    assert_eq!(all.params.sampling.do_sample, Some(false));
    let Rendering {
        n, best_of, jobs, ..
    } = all.rendering;
    assert_eq!((n, best_of, jobs), (3, 3, 1));
    let some = json!({"use_beam_search": true, "best_of": 4, "n": 2, "early_stopping": "never"});
    let wanted = BeamSearch {
        beams: 4,
        key: "best_of",
        returned: 2,
        length_penalty: 1.0,
        early_stopping: EarlyStopping::Never,
    };
    assert_eq!(params(some).beams, Some(wanted));
    assert_eq!(params(json!({"num_beams": 1, "n": 2})).beams, None);
}

#[test]
fn payloads_that_are_no_requests_get_the_texts_of_the_reference() {
    let invalid = "Input Parsing failed. Ensure that the request payload is valid. ";
    let cases = [
        (
            "",
            "Request payload should be a json object specifying the 'inputs' field.",
        ),
        (
            "[1]",
            "should be a json object specifying the 'inputs' field. Received payload [1]",
        ),
        (
            "{}",
            "should be a json object specifying the 'inputs' field. Received payload {}",
        ),
        (r#"{"inputs": null}"#, "specifying the 'inputs' field."),
        (
            r#"{"inputs": 5}"#,
            "The 'inputs' field must be a string or a list of strings. Received type <class 'int'>",
        ),
        (r#"{"inputs": ["a", {}]}"#, "Received type <class 'dict'>"),
        (
            r#"{"inputs": ""}"#,
            "The 'inputs' field does not contain any content. Received payload",
        ),
        (
            r#"{"inputs": []}"#,
            "The 'inputs' field does not contain any content.",
        ),
        (
            r#"{"inputs": "x", "parameters": [1]}"#,
            "'parameters' must be provided as an object of key-value pairs.",
        ),
        (
            r#"{"inputs": "x""#,
            "not valid JSON: EOF while parsing an object at line 1 column 14",
        ),
        ("{\"inputs\": \"x\",\n oops}", "at line 2 column 2"),
        ("inputs=x", "not valid JSON"),
        ("\u{feff}{}", "specifying the 'inputs' field"),
    ];
    for (body, text) in cases {
        let refusal = refusal(body);
        assert!(refusal.contains(invalid), "{body}: {refusal}");
        assert!(refusal.contains(text), "{body}: {refusal}");
    }
}

#[test]
fn bad_parameters_name_key_value_limit_and_cure() {
    let cases = [
        (
            r#""max_new_tokens": 0"#,
            "`max_new_tokens` is 0: must be an integer from 1",
        ),
        (r#""max_new_tokens": 1.5"#, "is 1.5: must be an integer"),
        (
            r#""max_new_tokens": "5""#,
            r#"is \"5\": must be an integer"#,
        ),
        (r#""min_new_tokens": 31"#, "from 0 to max_new_tokens = 30"),
        (
            r#""temperature": -1"#,
            "`temperature` is -1: must be a number of at least 0; 0 means greedy",
        ),
        (r#""temperature": "hot""#, "must be a number"),
        (r#""top_p": 0"#, "above 0 and at most 1"),
        (r#""top_p": 1.1"#, "above 0 and at most 1"),
        (r#""top_k": -2"#, "0 or -1 keeps all"),
        (r#""min_p": 1.5"#, "from 0 to 1"),
        (r#""typical_p": 0"#, "above 0"),
        (r#""repetition_penalty": 0"#, "1 means no penalty"),
        (r#""presence_penalty": 2.5"#, "from -2 to 2"),
        (r#""frequency_penalty": -3"#, "from -2 to 2"),
        (r#""seed": -1"#, "leave it out for a random one"),
        (r#""top_n_tokens": 21"#, "from 0 to 20"),
        (
            r#""logprobs": 21"#,
            "true, false or an integer from 0 to 20",
        ),
        (r#""do_sample": "true""#, "true or false, without quotes"),
        (r#""stop": [""]"#, "none of them empty"),
        (
            r#""ignore_eos": true, "ignore_eos_token": false"#,
            "given twice",
        ),
        (r#""max_tokens": 5"#, "did you mean `max_new_tokens`?"),
        (r#""temprature": 5"#, "did you mean `temperature`?"),
        (r#""inputs": "y""#, "outside of `parameters`"),
        (
            r#""num_beams": 4, "do_sample": true"#,
            "`num_beams` is 4: cannot be joined with sampling",
        ),
        (
            r#""num_beams": 4, "n": 5"#,
            "`n` is 5: must be at most num_beams = 4",
        ),
        (r#""num_beams": 129"#, "from 1 to 128"),
        (
            r#""num_beams": 4, "stream": true"#,
            "`num_beams` is 4: beams cannot be streamed",
        ),
        (r#""use_beam_search": true"#, "needs the number of beams"),
        (
            r#""length_penalty": 2"#,
            "`length_penalty` is 2: acts on beams",
        ),
        (
            r#""early_stopping": "never""#,
            r#"`early_stopping` is \"never\": acts on beams"#,
        ),
        (r#""early_stopping": 1"#, "must be true, false or"),
        (r#""adapters": ["a"]"#, "not supported yet"),
        (r#""truncate": 0"#, "leave it out for the whole prompt"),
        (
            r#""output_formatter": "sse_chat""#,
            "not supported yet; use json",
        ),
        (
            r#""output_formatter": "jsonline""#,
            "did you mean `jsonlines`?",
        ),
    ];
    for (parameter, text) in cases {
        let refusal = refusal(&format!(
            r#"{{"inputs": "x", "parameters": {{{parameter}}}}}"#
        ));
        assert!(refusal.contains(text), "{parameter}: {refusal}");
    }
}

#[test]
fn bad_frames_say_what_to_do() {
    let cases = [
        (
            r#"{"inputs": "x", "temperature": 1}"#,
            "it belongs inside `parameters`",
        ),
        (
            r#"{"inputs": "x", "paramters": {}}"#,
            "did you mean `parameters`?",
        ),
        (r#"{"inputs": "x", "stream": "yes"}"#, "true or false"),
        (r#"{"inputs": ["x"], "stream": true}"#, "cannot be streamed"),
        (
            r#"{"inputs": "x", "stream": true, "parameters": {"stream": false}}"#,
            "given twice",
        ),
    ];
    for (body, text) in cases {
        let refusal = refusal(body);
        assert!(refusal.contains(text), "{body}: {refusal}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let key = prop::sample::select(parameters::names().to_vec());
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..4)
                .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parsed(&bytes, None);
    }

    #[test]
    fn whatever_is_accepted_is_within_its_limits(inputs in any_json(), parameters in any_json()) {
        let body = json!({"inputs": inputs, "parameters": parameters}).to_string();
        if let Ok(request) = parsed(body.as_bytes(), None) {
            let params = request.params;
            let most = params.max_tokens.bound();
            prop_assert!(most >= 1 && params.min_new_tokens <= most);
            let sampling = params.sampling.over(&sconce_core::Sampling::default());
            prop_assert!(sampling.temperature > 0.0);
            prop_assert!(sampling.top_p > 0.0 && sampling.top_p <= 1.0);
            prop_assert!(sampling.repetition_penalty > 0.0);
            prop_assert!(request.prompts.texts.iter().all(|prompt| !prompt.is_empty()));
        }
    }

    #[test]
    fn single_parameters_of_any_type_are_read_or_refused_by_name(
        key in prop::sample::select(parameters::names().to_vec()), value in any_json(),
    ) {
        let body = json!({"inputs": "x", "parameters": {key: value}}).to_string();
        if let Err(error) = parsed(body.as_bytes(), None) {
            prop_assert!(error.to_string().contains(key), "{error}");
        }
    }
}
