//! Wrong requests and folders get an error that names what is wrong.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::FOLDERS;
use crate::support::{PROGRAM, copy_folder, failed_start};

#[test]
fn wrong_requests_say_what_is_wrong() {
    let asked = |parameters: Value| json!({"inputs": "a", "parameters": parameters});
    FOLDERS.refuse(
        "bart-summarization",
        "option.max_rolling_batch_size=8",
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
    FOLDERS.refuse(
        "nllb-translation",
        "",
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
    failed_start(&FOLDERS.root().join(name), properties, |_| {})
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
    let ranks = refusal("t5-summarization", "option.tensor_parallel_degree=2");
    assert!(
        ranks.contains("3 attention heads and 3 key/value heads cannot be divided among 2 ranks")
            && ranks.contains("one of 1, 3"),
        "{ranks}"
    );
    let packed = refusal("t5-summarization", "option.quantize=awq");
    assert!(packed.contains("it is not packed"), "{packed}");
    let long = refusal("bart-summarization", "option.max_model_len=97");
    assert!(long.contains("option.max_model_len = 97"), "{long}");
}

#[test]
fn check_plans_what_a_start_would_reserve_and_names_what_is_missing() {
    let dir = TempDir::new().unwrap();
    let copy = dir.path().join("m");
    copy_folder(&FOLDERS.root().join("bart-summarization"), &copy);
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
    copy_folder(
        &FOLDERS.root().join("t5-summarization"),
        &dir.path().join("t5"),
    );
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
