//! Strange texts get an answer or an error of their own, wrong requests and folders an error that names what is wrong.

use std::fs;
use std::process::Command;

use sconce_testkit::client::Client;
use sconce_testkit::server::Launch;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{golden, root, serve};
use crate::support::PROGRAM;
use crate::tasks::{copy_folder, strange_texts};

/// Several forms of a request for a text.
fn bodies(name: &str, text: &str) -> Vec<Value> {
    let mut languages = json!({});
    if name.starts_with("nllb") {
        languages = json!({"src_lang": "eng_Latn", "tgt_lang": "deu_Latn"});
    } else if name.starts_with("mbart") {
        languages = json!({"src_lang": "en_XX", "tgt_lang": "de_DE"});
    }
    let with = |mut parameters: Value| {
        let all = parameters.as_object_mut().unwrap();
        all.extend(languages.as_object().unwrap().clone());
        parameters
    };
    vec![
        json!({"inputs": text, "parameters": with(json!({"max_new_tokens": 4}))}),
        json!({"inputs": [text, "fine"], "parameters": with(json!({"truncation": true, "max_new_tokens": 3, "num_beams": 1}))}),
        json!({"inputs": "fine", "parameters": with(json!({"max_new_tokens": 3, "stop_sequence": text}))}),
    ]
}

#[test]
fn strange_texts_get_an_answer_or_an_error_of_their_own() {
    for name in [
        "t5-summarization",
        "bart-text2text-generation",
        "mbart-translation",
        "nllb-translation",
    ] {
        let golden = golden(name);
        let serving = serve(name, &format!("option.task={}", golden.task));
        let client = Client::new(serving.server.address());
        let good = &golden.requests[0];
        let good = json!({"inputs": good.inputs, "parameters": good.parameters});
        let before = client.post("/invocations", &good).unwrap().body;
        let (mut answered, mut refused) = (0, 0);
        for text in strange_texts() {
            for body in bodies(name, &text) {
                let answer = client.post("/invocations", &body).unwrap();
                let shown: String = body.to_string().chars().take(160).collect();
                let told = answer.json().unwrap();
                match answer.status {
                    200 => answered += 1,
                    424 => {
                        let text = told["error"].as_str().unwrap_or_default();
                        assert!(
                            text.len() > 20 && !text.contains("panic"),
                            "{name}, {shown}: {told}"
                        );
                        refused += 1;
                    }
                    other => panic!("{name}, {shown}: {other} {told}"),
                }
            }
        }
        assert!(
            answered > 50,
            "{name}: {answered} answered, {refused} refused"
        );
        let after = client.post("/invocations", &good).unwrap().body;
        assert_eq!(after, before, "{name}");
        let log = serving.server.log();
        assert!(!log.contains("panicked"), "{name}: {log}");
    }
}

/// A body, and parts of what is said of it.
type Wrong = (Value, &'static [&'static str]);

fn refuse(name: &str, cases: &[Wrong]) {
    let task = golden(name).task;
    let serving = serve(
        name,
        &format!("option.task={task}\noption.max_rolling_batch_size=8"),
    );
    for (body, parts) in cases {
        let answer = Client::new(serving.server.address())
            .post("/invocations", body)
            .unwrap();
        let told = answer.json().unwrap();
        assert_eq!(answer.status, 424, "{name}, {body}: {told}");
        for part in *parts {
            let error = told["error"].as_str().unwrap_or_default();
            assert!(
                error.contains(part),
                "{name}, {body}: {part} is not in {told}"
            );
        }
    }
}

#[test]
fn wrong_requests_say_what_is_wrong() {
    let asked = |parameters: Value| json!({"inputs": "a", "parameters": parameters});
    refuse(
        "bart-summarization",
        &[
            (json!({"inputs": []}), &["no input"]),
            (json!({"inputs": [1]}), &["`inputs` is 1"]),
            (
                json!({"inputs": "candle ".repeat(200)}),
                &[
                    "tokens with the special ones",
                    "reads 96",
                    "truncation=true",
                ],
            ),
            (asked(json!({"num_beams": 0})), &["`num_beams` is 0"]),
            (
                asked(json!({"num_beams": 9})),
                &["`num_beams` is 9", "max_rolling_batch_size = 8"],
            ),
            (
                asked(json!({"num_beams": 2, "do_sample": true})),
                &["`num_beams` is 2", "do_sample"],
            ),
            (
                asked(json!({"num_beams": 2, "num_return_sequences": 3})),
                &["`num_return_sequences` is 3", "num_beams = 2"],
            ),
            (asked(json!({"num_beam_groups": 2})), &["`num_beam_groups`"]),
            (
                asked(json!({"early_stopping": "soon"})),
                &["`early_stopping`", "\"never\""],
            ),
            (
                asked(json!({"bad_words_ids": [[]]})),
                &["`bad_words_ids`", "none of them empty"],
            ),
            (
                asked(json!({"bad_words_ids": [[100_000]]})),
                &["`bad_words_ids` is 100000", "vocabulary ends at"],
            ),
            (
                asked(json!({"max_new_tokens": 97})),
                &["`max_new_tokens` is 97", "at most 96 tokens"],
            ),
            (
                asked(json!({"max_length": 1})),
                &["`max_length` is 1", "at least 2"],
            ),
            (
                asked(json!({"num_beans": 2})),
                &["`num_beans`", "did you mean `num_beams`?"],
            ),
            (asked(json!({"src_lang": "en"})), &["`src_lang`"]),
            (
                json!({"inputs": "a", "num_beams": 2}),
                &["inside `parameters`"],
            ),
            (
                asked(json!({"return_tensors": true})),
                &["`return_tensors`"],
            ),
        ],
    );
    refuse(
        "nllb-translation",
        &[
            (
                json!({"inputs": "a"}),
                &["`src_lang` is missing", "eng_Latn_to_fra_Latn"],
            ),
            (
                asked(json!({"src_lang": "eng_Latn"})),
                &["`tgt_lang` is missing"],
            ),
            (
                asked(json!({"src_lang": "eng_Latn", "tgt_lang": "en"})),
                &["`tgt_lang` is en", "no token en"],
            ),
        ],
    );
}

/// What a start with these properties says; it must fail.
fn refusal(name: &str, properties: &str) -> String {
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join("m");
    copy_folder(&root().join(name), &copy);
    fs::write(copy.join("serving.properties"), properties).unwrap();
    let mut server = Launch::serve(PROGRAM, &copy).start().unwrap();
    server.wait_for_log("cannot be served").unwrap();
    server.log()
}

#[test]
fn tasks_that_do_not_fit_and_broken_folders_are_named() {
    let misfit = refusal("t5-summarization", "option.task=fill-mask");
    assert!(
        misfit.contains("fill-mask is a task of encoders"),
        "{misfit}"
    );
    let languages = refusal("nllb-translation", "option.task=translation_en_to_de");
    assert!(languages.contains("names the language en"), "{languages}");
    let quantised = refusal("t5-summarization", "option.quantize=int8");
    assert!(
        quantised.contains("only the weights of decoders"),
        "{quantised}"
    );
    let long = refusal("bart-summarization", "option.max_model_len=97");
    assert!(long.contains("option.max_model_len = 97"), "{long}");
}

#[test]
fn check_plans_what_a_start_would_reserve_and_names_what_is_missing() {
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join("m");
    copy_folder(&root().join("bart-summarization"), &copy);
    let check = || {
        let output = Command::new(PROGRAM)
            .args(["check", "--json"])
            .arg(&copy)
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let report = check();
    assert_eq!(
        report["model"]["architecture"], "BartForConditionalGeneration",
        "{report}"
    );
    assert!(report["plan"]["cache_bytes"].as_u64() > Some(0), "{report}");
    fs::remove_file(copy.join("model.safetensors")).unwrap();
    copy_folder(&root().join("t5-summarization"), &dir.path().join("t5"));
    fs::copy(
        dir.path().join("t5/model.safetensors"),
        copy.join("model.safetensors"),
    )
    .unwrap();
    let report = check();
    let told = report["reasons"].to_string();
    assert!(
        told.contains("shape-mismatch") && told.contains("shared.weight"),
        "{report}"
    );
}
