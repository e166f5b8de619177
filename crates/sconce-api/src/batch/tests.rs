//! Requests and answers of the static batches.

use sconce_core::{FinishReason, Generate, GenerateParams, MaxTokens, Output, ServeError, Token};
use serde_json::{Value, json};

use crate::dialect::Finished;
use crate::{Accepted, Answer, Dialect, Incoming, Wire};

fn wire(dialect: Dialect, streaming: bool) -> Wire {
    Wire {
        dialect,
        streaming,
        ..Wire::default()
    }
}

fn accept(wire: &Wire, body: &Value) -> Result<Accepted, ServeError> {
    let body = body.to_string();
    wire.accept(&Incoming {
        body: body.as_bytes(),
        ..Incoming::default()
    })
}

fn params(dialect: Dialect, parameters: Value) -> GenerateParams {
    let body = json!({"inputs": "x", "parameters": parameters});
    let accepted = accept(&wire(dialect, false), &body).expect("a valid request");
    accepted.prompts[0].params.clone()
}

fn refusal(parameters: Value) -> String {
    let wire = wire(Dialect::HuggingFace, false);
    let body = json!({"inputs": "x", "parameters": parameters});
    let Err(error) = accept(&wire, &body) else {
        panic!("{body} was accepted")
    };
    String::from_utf8(wire.failure(&error, 424)).unwrap()
}

fn output(echo: &str, text: &str) -> Output {
    Output {
        text: text.into(),
        finish: FinishReason::Length,
        prompt_tokens: 1,
        generated_tokens: 1,
        seed: None,
        prompt: vec![],
        echo: echo.into(),
        matched: None,
        others: Vec::new(),
    }
}

fn token(text: &str) -> Token {
    Token {
        id: 1,
        text: text.into(),
        logprob: -1.0,
        spelled: String::new(),
        special: false,
        last: false,
        top: vec![],
    }
}

#[test]
fn the_answer_is_a_list_with_prompt_and_text_also_for_one_prompt() {
    let one = |echo, text| Finished {
        tokens: vec![],
        output: output(echo, text),
    };
    let accepted = accept(
        &wire(Dialect::HuggingFace, false),
        &json!({"inputs": ["a", "é"]}),
    );
    let Accepted { prompts, answer } = accepted.expect("valid");
    assert!(
        prompts
            .iter()
            .all(|Generate { params, .. }| params.report.echo)
    );
    let Answer::Whole(answer) = answer else {
        panic!("static batches answer at once")
    };
    assert_eq!(
        String::from_utf8(answer.body(&[one("a", " b"), one("é", "\n")])).unwrap(),
        "[\n  {\n    \"generated_text\":\"a b\"\n  },\n  {\n    \"generated_text\":\"é\\n\"\n  }\n]"
    );
}

#[test]
fn lengths_are_those_of_generate() {
    let of = |parameters| params(Dialect::DeepSpeed, parameters).max_tokens;
    assert_eq!(of(json!({})), MaxTokens::Model);
    assert_eq!(of(json!({"max_length": 50})), MaxTokens::Total(50));
    assert_eq!(
        of(json!({"max_new_tokens": 7, "max_length": 50})),
        MaxTokens::New(7)
    );
    let least = params(
        Dialect::DeepSpeed,
        json!({"min_length": 9, "min_new_tokens": 2}),
    );
    assert_eq!((least.min_length, least.min_new_tokens), (9, 2));
}

#[test]
fn faster_transformer_counts_new_tokens_under_either_name_and_samples_from_a_choice() {
    let of = |parameters| params(Dialect::FasterTransformer, parameters);
    assert_eq!(of(json!({})).max_tokens, MaxTokens::New(50));
    assert_eq!(of(json!({"max_length": 9})).max_tokens, MaxTokens::New(9));
    assert_eq!(
        of(json!({"max_new_tokens": 8})).max_tokens,
        MaxTokens::New(8)
    );
    let samples = |parameters| of(parameters).sampling.do_sample;
    assert_eq!(samples(json!({"temperature": 0.5})), Some(false));
    assert_eq!(samples(json!({"top_k": 1})), Some(false));
    assert_eq!(samples(json!({"top_k": 5})), Some(true));
    assert_eq!(samples(json!({"top_p": 0.5})), Some(true));
}

#[test]
fn a_temperature_alone_does_not_sample_but_in_streams() {
    let body = json!({"inputs": "x", "parameters": {"temperature": 0.5}});
    for (streaming, wanted) in [(false, None), (true, Some(true))] {
        let accepted = accept(&wire(Dialect::HuggingFace, streaming), &body).expect("valid");
        assert_eq!(accepted.prompts[0].params.sampling.do_sample, wanted);
    }
}

#[test]
fn a_token_that_ends_the_text_replaces_those_of_the_model_and_stays() {
    for ids in [json!(5), json!([5, 6])] {
        let stop = params(Dialect::HuggingFace, json!({"eos_token_id": ids})).stop;
        assert!(stop.ignore_eos && stop.keep_in_text);
        assert_eq!(stop.token_ids[0], 5);
    }
    let text = refusal(json!({"eos_token_id": -1}));
    assert!(text.contains("`eos_token_id` is -1"), "{text}");
}

#[test]
fn what_has_no_effect_is_taken_and_what_would_have_one_is_refused_by_name() {
    params(
        Dialect::HuggingFace,
        json!({"early_stopping": true, "length_penalty": 0.5, "pad_token_id": 0, "use_cache": true,
               "num_beams": 1, "details": true, "no_repeat_ngram_size": 0}),
    );
    let cases = [
        (
            json!({"num_beams": 2, "do_sample": true}),
            "`num_beams` is 2",
        ),
        (
            json!({"num_beams": 2, "num_return_sequences": 3}),
            "from 1 to num_beams = 2",
        ),
        (
            json!({"no_repeat_ngram_size": 3}),
            "`no_repeat_ngram_size` is 3",
        ),
        (
            json!({"stop_sequences": ["a"]}),
            "set `option.stop_sequence` instead",
        ),
        (
            json!({"max_new_token": 3}),
            "did you mean `max_new_tokens`?",
        ),
        (json!({"top_p": 2}), "`top_p` is 2"),
    ];
    for (parameters, wanted) in cases {
        let body = refusal(parameters);
        let beginning =
            "{\n  \"code\":424,\n  \"message\":\"invoke handler failure\",\n  \"error\":\"";
        assert!(
            body.starts_with(beginning) && body.contains(wanted),
            "{body}"
        );
    }
}

#[test]
fn lines_wait_for_every_prompt_and_finished_ones_are_empty() {
    let body = json!({"inputs": ["a", "b"], "parameters": {}});
    let accepted = accept(&wire(Dialect::DeepSpeed, true), &body).expect("valid");
    assert_eq!(accepted.prompts[0].params.max_tokens, MaxTokens::New(50));
    let Answer::Stream(mut stream) = accepted.answer else {
        panic!("the configuration says to stream")
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    assert_eq!(text(stream.token(0, token("A"))), "");
    assert_eq!(text(stream.token(0, token("C"))), "");
    assert_eq!(
        text(stream.token(1, token("é"))),
        "{\"outputs\": [\"A\", \"\\u00e9\"]}\n"
    );
    assert_eq!(
        text(stream.done(1, &output("", "é"))),
        "{\"outputs\": [\"C\", \"\"]}\n"
    );
    assert_eq!(
        text(stream.token(0, token("D"))),
        "{\"outputs\": [\"D\", \"\"]}\n"
    );
    let failure = text(stream.fail(&ServeError::Draining, 503));
    assert!(failure.ends_with("\"code\":503}\n"), "{failure}");
}

#[test]
fn the_model_s_stop_sequences_reach_every_prompt() {
    let wire = Wire {
        stop_sequences: vec!["###".into()],
        ..wire(Dialect::HuggingFace, false)
    };
    let accepted = accept(&wire, &json!({"inputs": ["a", "b"]})).expect("valid");
    for prompt in accepted.prompts {
        assert_eq!(prompt.params.stop.sequences, ["###"]);
    }
}
